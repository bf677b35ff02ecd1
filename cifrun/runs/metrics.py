"""What each number and picture of a run means, in one sentence: TensorBoard shows it beside its name.

`docs/diagnostics.md` has the formulas and how to read them.
"""

from __future__ import annotations

__all__ = ["meaning"]

NUMBERS = {
    # training
    "loss": "What training minimises: minus the objective, mean over a batch [nats].",
    "grad_norm": "Norm of the gradient of all parameters, before clipping.",
    "lr": "Learning rate.",
    "step_seconds": "Seconds a step, without evaluation and pictures.",
    "skipped_steps": "Steps so far that changed nothing because the loss or its gradient was not finite.",
    "function_evaluations": "Evaluations of the velocity that the adaptive solver needed for the last batch.",
    # fit
    "log_likelihood": "Mean of log p(x) over data [nats]: exact, or IWAE_m, a lower bound in expectation.",
    "elbo": "Mean of the evidence lower bound of log p(x) over data [nats].",
    "gap": "log-likelihood minus ELBO [nats]: what the bound lacks.",
    "bits_per_dim": "−log p(x) / (D log 2): the log-likelihood in bits per dimension. Less is better.",
    "kl_to_truth": "KL divergence from the true distribution to the model [nats]: 0 for a perfect model.",
    # topology
    "mass_off_support": "Share of the model's mass where the target has none: 10⁻⁴ or 0 for a perfect model.",
    "mass_misplaced": "Share of the model's mass that is in a wrong piece of the target, or in none.",
    "coverage": "Share of the data in the region that holds 95 % of the model's mass: 0.95 for a perfect model.",
    # invertibility
    "lip_f": "Lipschitz constant of F: z ↦ x, the largest of many points, so a bound from below.",
    "lip_f_inverse": "Lipschitz constant of F⁻¹: x ↦ z, the largest of many points, so a bound from below.",
    "bi_lipschitz": "The larger of Lip F and Lip F⁻¹, from below: 1 for a rotation; it climbs as F nears breaking.",
    "lipschitz_ceiling": "What the bi-Lipschitz constant of this architecture can't exceed.",
    "log_abs_det_min": "Smallest log|det ∂F/∂z| of many points [nats]: how much volume is squeezed.",
    "log_abs_det_max": "Largest log|det ∂F/∂z| of many points [nats]: how much volume is stretched.",
    # trust
    "ess": "Effective sample size (Σw)² / Σw² of the m importance weights; near m, they hardly differ.",
    "log_w_variance": "Variance of log w, mean over data: about twice the gap of the ELBO while it is small.",
    "pareto_k": "Pareto k̂ of the importance weights, median over data: below 0.5 good, below 0.7 usable.",
    "pareto_k_max": "Largest Pareto k̂ of the importance weights of a datum.",
    "pareto_k_high": "Share of the data whose importance weights have a Pareto k̂ above 0.7.",
    "bracket_lower": "Lower bound on log p(x) of the model's own draws [nats].",
    "bracket_upper": "Upper bound on log p(x) of the model's own draws [nats].",
    "bracket_gap": "Gap between both bounds on log p(x) of the model's own draws [nats].",
}
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
PLACES = {"data": "test data", "samples": "samples", "far": "points ten times as far out as the data"}


def meaning(tag: str) -> str:
    """What `group/name` is, or nothing for a name that is not known."""
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
    if name.startswith("round_trip_"):
        place, precision = name.removeprefix("round_trip_").rpartition("_")[::2]
        return f"Largest |F(F⁻¹(x)) − x| / (1 + |x|) at {PLACES.get(place, place)}, in {precision}."
    of = "Of the best weights, on the test set. " if group == "best" and name in NUMBERS else ""
    return of + NUMBERS.get(name, "")
