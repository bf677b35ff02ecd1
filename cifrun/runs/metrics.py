"""The metrics of a run: what each is called and means, its unit, which way is better, and where it is shown.

Everything that shows a number reads this table: TensorBoard's descriptions and charts, the table in the terminal at the
end of a run, the tables of `cifrun report`, and `docs/metrics.md`. `docs/diagnostics.md` has the formulas.

A metric's name is its key in `summary.json` under "test". In `metrics.jsonl` and TensorBoard it follows a group:
train/, valid/, test/, diagnostics/ (of the test set during training), or best/ (the headline numbers of test/ again).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..io.text import with_error

__all__ = ["BY_NAME", "CHARTS", "HEADLINE", "HPARAMS", "NUMBERS", "PICTURES", "RESULT", "THEMES", "Metric", "meaning"]


@dataclass(frozen=True)
class Row:
    """A line in the terminal's table of a test result.

    Attributes:
        place: Lines are sorted by it.
        label: What stands on the left; {kind} says how log p(x) was computed.
        value: A format string over the result; by default, the metric with its standard error.
        more: Follows the value if the result has the numbers it needs.
        estimated: Whether the line is left out where log p(x) is exact.
    """

    place: int
    label: str
    value: str = ""
    more: str = ""
    estimated: bool = False


@dataclass(frozen=True)
class Metric:
    """A number that a run writes.

    Attributes:
        name: Its key in a test result, and what follows the group in a tag of TensorBoard.
        meaning: One sentence.
        unit: "nats", "bits", "s" or nothing.
        better: +1 if more is better, −1 if less is, 0 if neither.
        title: What its column in a report is called; empty if it has none.
        indexed: Whether it says something of a CIF only.
        row: Its line in the terminal's table of a test result.
        headline: Its place among the numbers under best/, from 1; 0 if it is none of them.
        quoted: Whether its standard error is under test/ too.
        hparam: Whether it is a column on TensorBoard's page HPARAMS.
    """

    name: str
    meaning: str
    unit: str = ""
    better: int = 0
    title: str = ""
    indexed: bool = False
    row: Row | None = None
    headline: int = 0
    quoted: bool = False
    hparam: bool = False

    @property
    def heading(self) -> str:
        """The title with its unit: "log-likelihood [nats]"."""
        return self.title if self.unit in self.title else f"{self.title} [{self.unit}]"

    def told(self, result: Mapping[str, Any]) -> str:
        """Its value in a result, as its row of the terminal's table has it."""
        if self.row is None or not self.row.value:
            return with_error(result[self.name], result[f"{self.name}_se"])
        # Of a verdict, "good: the weights have …", the first word is enough.
        words = {key: value.partition(":")[0] if isinstance(value, str) else value for key, value in result.items()}
        text = self.row.value.format_map(words)
        with suppress(KeyError):  # a flow without a ceiling
            text += self.row.more.format_map(words)
        return text


@dataclass(frozen=True)
class Theme:
    """What is asked of a flow, the numbers that answer it, and how to read them."""

    name: str
    hint: str
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Curves that belong together, on TensorBoard's page "Custom Scalars"."""

    section: str
    title: str
    tags: tuple[str, ...]


_FROM_BELOW = "the largest of many points, so a bound from below."
_PLACES = {"data": "test data", "samples": "samples", "far": "points ten times as far out as the data"}

TRAINING = (
    Metric("loss", "What training minimises: minus the objective, mean over a batch [nats].", "nats", -1),
    Metric("grad_norm", "Norm of the gradient of all parameters, before clipping."),
    Metric("lr", "Learning rate."),
    Metric("step_seconds", "Seconds a step, without evaluation and pictures.", "s", -1),
    Metric("skipped_steps", "Steps so far that changed nothing because the loss or its gradient was not finite."),
    Metric("function_evaluations", "Evaluations of the velocity that the adaptive solver needed for the last batch."),
)
FIT = (
    Metric(
        "log_likelihood",
        "Mean of log p(x) over data [nats]: exact, or IWAE_m, a lower bound in expectation.",
        "nats",
        +1,
        "log-likelihood",
        row=Row(1, "log-likelihood ({kind})"),
        headline=1,
        quoted=True,
        hparam=True,
    ),
    Metric(
        "kl_to_truth",
        "KL divergence from the true distribution to the model [nats]: 0 for a perfect model.",
        "nats",
        -1,
        "KL to the truth",
        row=Row(6, "KL to the truth"),
        headline=2,
    ),
    Metric(
        "bits_per_dim",
        "−log p(x) / (D log 2): the log-likelihood in bits per dimension. Less is better.",
        "bits",
        -1,
        "bits/dim",
        row=Row(5, "bits per dimension"),
        headline=5,
        quoted=True,
    ),
    Metric(
        "elbo",
        "Mean of the evidence lower bound of log p(x) over data [nats].",
        "nats",
        +1,
        row=Row(2, "ELBO", estimated=True),
        hparam=True,
    ),
)
TOPOLOGY = (
    Metric(
        "mass_off_support",
        "Share of the model's mass where the target has none: 10⁻⁴ or 0 for a perfect model.",
        better=-1,
        title="mass off the support",
        row=Row(7, "mass off the support"),
        headline=3,
    ),
    Metric(
        "mass_misplaced",
        "Share of the model's mass that is in a wrong piece of the target, or in none.",
        better=-1,
        title="mass misplaced",
    ),
    Metric(
        "coverage",
        "Share of the data in the region that holds 95 % of the model's mass: 0.95 for a perfect model.",
        title="coverage, ideally 0.95",
        row=Row(8, "coverage by the 95 % region"),
    ),
)
INVERTIBILITY = (
    Metric("lip_f", f"Lipschitz constant of F: z ↦ x, {_FROM_BELOW}"),
    Metric("lip_f_inverse", f"Lipschitz constant of F⁻¹: x ↦ z, {_FROM_BELOW}"),
    Metric(
        "bi_lipschitz",
        "The larger of Lip F and Lip F⁻¹, from below: 1 for a rotation; it climbs as F nears breaking.",
        title="bi-Lipschitz, at least",
        row=Row(9, "bi-Lipschitz constant, at least", "{bi_lipschitz:.4g}", " (ceiling {lipschitz_ceiling:.4g})"),
        headline=4,
    ),
    Metric(
        "lipschitz_ceiling", "What the bi-Lipschitz constant of this architecture can't exceed.", title="its ceiling"
    ),
    Metric("log_abs_det_min", "Smallest log|det ∂F/∂z| of many points [nats]: how much volume is squeezed.", "nats"),
    Metric("log_abs_det_max", "Largest log|det ∂F/∂z| of many points [nats]: how much volume is stretched.", "nats"),
    *(
        Metric(
            f"round_trip_{place}_{precision}",
            f"Largest |F(F⁻¹(x)) − x| / (1 + |x|) at {words}, in {precision}.",
            title="round-trip error" if (place, precision) == ("samples", "float32") else "",
        )
        for place, words in _PLACES.items()
        for precision in ("float32", "float64")
    ),
)
TRUST = (
    Metric(
        "gap",
        "log-likelihood minus ELBO [nats]: what the bound lacks.",
        "nats",
        title="gap of the ELBO",
        indexed=True,
        row=Row(3, "gap of the bound", estimated=True),
    ),
    Metric(
        "ess",
        "Effective sample size (Σw)² / Σw² of the m importance weights; near m, they hardly differ.",
        title="ESS",
        indexed=True,
        row=Row(4, "effective sample size", "{ess:.1f} of {importance_samples}", estimated=True),
    ),
    Metric(
        "log_w_variance",
        "Variance of log w, mean over data: about twice the gap of the ELBO while it is small.",
        indexed=True,
    ),
    Metric(
        "pareto_k",
        "Pareto k̂ of the importance weights, median over data: below 0.5 good, below 0.7 usable.",
        title="Pareto k̂",
        indexed=True,
        row=Row(10, "Pareto k̂ of the weights", "{pareto_k:.2f}", " ({pareto_k_verdict})"),
    ),
    Metric("pareto_k_max", "Largest Pareto k̂ of the importance weights of a datum.", indexed=True),
    Metric("pareto_k_high", "Share of the data whose importance weights have a Pareto k̂ above 0.7.", indexed=True),
    Metric("bracket_lower", "Lower bound on log p(x) of the model's own draws [nats].", "nats", indexed=True),
    Metric("bracket_upper", "Upper bound on log p(x) of the model's own draws [nats].", "nats", indexed=True),
    Metric(
        "bracket_gap",
        "Gap between both bounds on log p(x) of the model's own draws [nats].",
        "nats",
        title="gap of bounds",
        indexed=True,
    ),
)
THEMES = (
    Theme("training", "How the optimisation goes.", TRAINING),
    Theme(
        "fit",
        "Log-likelihood of the test data under the best weights, exact or estimated from m importance samples; KL to "
        "the truth is 0 for a perfect model.",
        FIT,
    ),
    Theme(
        "topology",
        "Where the model puts its mass: off the support of the target, in a wrong piece of it or in none; and how much "
        "of the data is in the region that holds 95 % of the model.",
        TOPOLOGY,
    ),
    Theme(
        "invertibility",
        "How near x = F(z; u) is to breaking: the larger of Lip F and Lip F⁻¹, found from below; the ceiling that the "
        "architecture sets it, if any; and how far a sample is from what F makes of its own inverse in float32.",
        INVERTIBILITY,
    ),
    Theme(
        "trust",
        "How good IWAE_m is for indexed flows: what the ELBO lacks, the effective sample size, Pareto k̂ of "
        "the m weights (below 0.5 good, below 0.7 usable), and the gap between two bounds on log p(x).",
        TRUST,
    ),
    Theme("cost", "What was trained, and how long that took, with validation and pictures."),
)
NUMBERS = tuple(metric for theme in THEMES for metric in theme.metrics)
BY_NAME = {metric.name: metric for metric in NUMBERS}
#: The lines of the terminal's table, the names under best/, and the columns of TensorBoard's page HPARAMS.
RESULT = sorted(((metric, metric.row) for metric in NUMBERS if metric.row), key=lambda pair: pair[1].place)
HEADLINE = [metric.name for metric in sorted(NUMBERS, key=lambda metric: metric.headline) if metric.headline]
HPARAMS = [metric.name for metric in NUMBERS if metric.hparam]

PICTURES = {
    "density": "Target or data, the model's density on the same colour scale, and its samples.",
    "density over training": "The density at each step that was drawn, as a film.",
    "samples": "Samples of the model; in the plane, over points of the data.",
    "reconstructions": "Images, and below each what came back of it from the prior.",
    "marginals": "Histograms of the first coordinates: data below the diagonal, model above it, both on it.",
    "lipschitz": "Lipschitz constants of the first k steps from the data, and the ceiling if there is one.",
    "bounds": "How IWAE_m rises with m, and between what log p(x) lies on the model's own draws.",
    "maps": "A lattice of z-space through F(·; u), for the u of draws that lie far from each other.",
    "index": "Mean and standard deviation of u under q(u | x), at the steps that use it most.",
}

#: In the order in which one reads them. (TensorBoard's other pages sort by name.)
CHARTS = (
    Chart("log-likelihood [nats]", "training and validation", ("train/elbo", "valid/log_likelihood")),
    Chart("log-likelihood [nats]", "bound and estimate, validation", ("valid/elbo", "valid/log_likelihood")),
    Chart(
        "invertibility",
        "bi-Lipschitz constant and its ceiling",
        ("diagnostics/bi_lipschitz", "diagnostics/lipschitz_ceiling"),
    ),
    Chart("invertibility", "Lip F, Lip F⁻¹", ("diagnostics/lip_f", "diagnostics/lip_f_inverse")),
    Chart("topology", "mass off the support", ("diagnostics/mass_off_support",)),
    Chart("topology", "coverage of the data by the 95 % region", ("diagnostics/coverage",)),
    Chart("trust", "Pareto k̂ of the importance weights", ("diagnostics/pareto_k", "diagnostics/pareto_k_max")),
    Chart(
        "trust",
        "log p(x) of the model's own draws from both sides [nats]",
        ("diagnostics/bracket_lower", "diagnostics/bracket_upper"),
    ),
    Chart("optimisation", "loss [nats]", ("train/loss",)),
    Chart("optimisation", "gradient norm", ("train/grad_norm",)),
    Chart("optimisation", "learning rate", ("train/lr",)),
    Chart("optimisation", "seconds a step", ("train/step_seconds",)),
)


def meaning(tag: str) -> str:
    """What the number or picture `group/name` is, in a sentence; nothing if the name is not known."""
    group, _, name = tag.rpartition("/")
    if group.startswith("figures"):
        return PICTURES.get(name, "")
    if name.endswith("_se"):
        return f"Standard error of {name.removesuffix('_se')}."
    if name.endswith("_q999"):
        return f"As {name.removesuffix('_q999')}, but what all but one point in a thousand stay below."
    if name.startswith("mass of "):
        where = "in no piece of the target" if name == "mass of none" else f"in the target's piece “{name[8:]}”"
        return f"Share of the model's mass that is {where}."
    if name not in BY_NAME:
        return ""
    of = "Of the best weights, on the test set. " if group == "best" else ""
    return of + BY_NAME[name].meaning
