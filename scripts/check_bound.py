"""Compares IWAE_m with what it is a bound of, where that is known, and writes docs/bound.md.

    python scripts/check_bound.py            # some minutes on one core

A CIF as it is made has an index that does nothing yet: each of its importance weights is p(x), which its steps alone
give too. So IWAE_m is log p(x) for every m, and whatever it differs by is an error of the estimate. The last layer of
each block's network is enlarged, so that log-determinants are not near zero.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cifrun.bijections import residual
from cifrun.build import build_model
from cifrun.cif.importance import log_mean_exp, mean_se, pieces, weight_matrices
from cifrun.cif.model import Model
from cifrun.cif.step import Step
from cifrun.cli.hydra_app import configure
from cifrun.compute.rng import forked, seeding
from cifrun.io.text import with_error

COUNTS = (1, 10, 100, 1000)
#: By title: the shape of an event, data, and what the flow is.
CASES: dict[str, tuple[tuple[int, ...], int, str]] = {
    "D = 2": ((2,), 200, "flow=resflow"),
    "D = 10": ((10,), 200, "flow=resflow"),
    "D = 64": ((64,), 100, "flow=resflow"),
    "images of 8 × 8": ((1, 8, 8), 30, "flow=resflow_image dataset=digits flow.depth=2 flow.scales=2 flow.dense=1"),
    "D = 256": ((256,), 30, "flow=resflow"),
}
SMALL = "flow.hidden=[32,32] flow.norm=none"
STEEP = 20.0


def fresh(shape: Sequence[int], overrides: str) -> Model:
    """A CIF as it is made, but for blocks that do more."""
    depth = "" if "image" in overrides else "flow.depth=4"
    config = configure([*f"{overrides} {SMALL} {depth}".split(), "cif=true"])
    model = build_model(config, shape, None).eval()
    for module in model.modules():
        if isinstance(module, residual.ResidualBlock):
            module.net.linears[-1].weight.data.mul_(STEEP)
    return model.requires_grad_(False)


def exact(model: Model, x: Tensor) -> Tensor:
    """log p(x) of the steps alone, with exact log-determinants."""
    for module in model.modules():
        if isinstance(module, residual.ResidualBlock):
            module.exact_log_det = True
    return Model([Step(step.bijection) for step in model.steps]).eval().log_prob(x)


def estimated(model: Model) -> Model:
    """The model with estimated log-determinants, whatever its dimension."""
    for module in model.modules():
        if isinstance(module, residual.ResidualBlock):
            module.exact_log_det = False
    return model


def naive(model: Model, x: Tensor, m: int) -> Tensor:
    """The log of the mean of m weights that each have noise of their own: what is no bound."""
    draws = []
    with forked(0):
        for k in range(m):
            parts = model.log_weights(lambda rows: x[rows], pieces(len(x), 1, len(x), len(x)), seeding(k), twice=False)
            draws.append(weight_matrices(parts)[0])
    return log_mean_exp(torch.cat(draws))


def row(title: str, kind: str, differences: Sequence[Tensor]) -> str:
    """A line of the table: mean difference and its standard error over data, or that all are rounding, for each m."""

    def told(d: Tensor) -> str:
        if d.abs().max() < 1e-3:
            return f"0 to {d.abs().max().item():.0e}"
        return with_error(*mean_se(d))

    cells = map(told, differences)
    return f"| {title} | {kind} | {' | '.join(cells)} |"


def table() -> str:
    """The table in Markdown."""
    header = f"| model | log-determinants | {' | '.join(f'm = {m}' for m in COUNTS)} |"
    lines = [header, f"|---|---|{'---:|' * len(COUNTS)}"]
    for title, (shape, count, overrides) in CASES.items():
        model = fresh(shape, overrides)
        x = torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            limit = residual.EXACT_IN_EVALUATION
            truth = exact(model, x)
            if math.prod(shape) <= limit:
                found = [model.estimate(x, m, seed=2).log_likelihood - truth for m in COUNTS]
                lines.append(row(title, "exact, as evaluated", found))
            noisy = estimated(model)
            kind = "estimated twice" + ("" if math.prod(shape) <= limit else ", as evaluated")
            lines.append(row(title, kind, [noisy.estimate(x, m, seed=2).log_likelihood - truth for m in COUNTS]))
            once = [naive(noisy, x, m) - truth for m in COUNTS[:3]]
            lines.append(f"{row(title, 'estimated once (no bound)', once)} – |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


DOCUMENT = """# Is IWAE_m a bound?

IWAE_m is below log p(x) in expectation if the importance weights are what they should be. The log-determinant of a
residual flow with many dimensions is estimated, so each log w has noise, and the log of a mean of noisy weights is too
large: by up to half the variance of the noise. cifrun therefore evaluates the log-determinant exactly up to {limit}
dimensions, and beyond estimates each log w twice: one estimate says how the importance samples share, the other what
they are worth ([theory](explanation/theory.md)).

The table has IWAE_m − log p(x) in nats, mean over data ± standard error, for CIFs as they are made: their index does
nothing yet, so every weight is p(x), which is known, and the difference should be 0 for every m. The last line of a
model is what cifrun does not do.

{table}

To repeat: `python scripts/check_bound.py`.
"""


def main() -> None:
    """Write the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="(%(default)s)")
    arguments = parser.parse_args()
    text = DOCUMENT.format(limit=residual.EXACT_IN_EVALUATION, table=table())
    (arguments.docs / "bound.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
