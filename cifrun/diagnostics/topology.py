"""Where a model puts its mass, beside where it belongs.

    mass off support    P_{x ~ p}( p*(x) < ε ),     P_{x ~ p*}( p*(x) < ε ) = 1/10 000
    coverage            P_{x ~ p*}( p(x) ≥ c ),     P_{x ~ p}( p(x) ≥ c ) = 0.95
    mass of a component P_{x ~ p}( x ∈ A_k ),       beside P_{x ~ p*}( x ∈ A_k )

with p* the truth and p the model. The first says what the model smears over places where nothing is; the second, what
it misses: its highest-density region {p ≥ c} is the smallest that holds 95 % of its own mass, and of the truth's mass
a perfect model has 95 % in it too. Each is a share of independent draws, so its standard error is binomial.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..cif.importance import mean_and_error
from ..data.base import Target

#: What share of the truth's own mass counts as off its support.
RARE = 1e-4
#: The mass of the highest-density region.
REGION = 0.95
#: Draws of the truth from which the level ε is read off, and their seed.
LEVEL_DRAWS, LEVEL_SEED = 300_000, 20_200


def share(hits: Tensor) -> tuple[float, float]:
    """The share of hits (n,) and its standard error, √(p(1−p)/n) at p = (hits + 1) / (n + 2): never zero."""
    n, count = len(hits), int(hits.sum())
    p = (count + 1) / (n + 2)
    return count / n, math.sqrt(p * (1 - p) / n)


def support_level(target: Target, draws: int = LEVEL_DRAWS) -> float:
    """log ε in nats: the level that log p* undercuts with probability 1/10 000 at a draw of the truth itself.

    The quantile of a fixed sample, for the relative error of whose tail 1/√(draws/10 000) is the scale: 18 %. Where p*
    is constant on its support, nothing undercuts ε = p*, and only the outside is off the support.
    """
    log_p = target.log_prob(target.sample(draws, torch.Generator().manual_seed(LEVEL_SEED)))
    return log_p.kthvalue(max(1, round(RARE * draws))).values.item()


def mass_off_support(target: Target, samples: Tensor, level: float) -> dict[str, float]:
    """The share of the model's samples (n, 2) where log p* is below `level`, or not finite."""
    log_p = target.log_prob(samples.double())
    p, se = share(~(log_p >= level))
    return {"mass_off_support": p, "mass_off_support_se": se}


def coverage(log_prob_samples: Tensor, log_prob_data: Tensor) -> dict[str, float]:
    """The share of the data in the model's highest-density region of mass 95 %.

    Arguments:
        log_prob_samples: log p at the model's own samples, (n,): their 5 % quantile is log c.
        log_prob_data: log p at data, (N,), by the same estimator.

    Returns:
        "coverage" and its standard error, √(P(1−P)/N + d²), where d is what a standard error of the quantile's own
        rank, √(0.05 · 0.95 / n), makes of it.
    """
    ordered = log_prob_samples.double().sort().values
    n = len(ordered)

    def covered(rank: float) -> Tensor:
        c = ordered[min(n - 1, max(0, math.ceil(rank * n) - 1))]
        return log_prob_data.double() >= c

    tail = 1 - REGION
    p, binomial = share(covered(tail))
    step = math.sqrt(tail * REGION / n)
    moved = 0.5 * (covered(tail - step).double().mean() - covered(tail + step).double().mean()).item()
    return {"coverage": p, "coverage_se": math.hypot(binomial, moved)}


def component_masses(target: Target, samples: Tensor) -> dict[str, Any]:
    """How the model's samples (n, 2) are shared out among the target's components; empty if it has none.

    Returns:
        "components": a row each, {"name", "truth", "mass", "mass_se"}, the last one, "none", for what is in none of
        them; and "mass_misplaced" = ½ Σ_k |mass_k − truth_k|, the share of mass that is in the wrong component. Of n
        draws from the truth itself this is about √(K / 2πn).
    """
    names = [*target.components, "none"]
    truth = torch.tensor([*target.components.values(), 0.0], dtype=torch.float64)
    if len(names) == 1:
        return {}
    truth[-1] = max(0.0, 1 - truth.sum().item())
    label = target.component(samples.double())
    label = torch.where(label < 0, len(names) - 1, label)
    rows = []
    for k, name in enumerate(names):
        p, se = share(label == k)
        rows.append({"name": name, "truth": truth[k].item(), "mass": p, "mass_se": se})
    mass = torch.tensor([row["mass"] for row in rows], dtype=torch.float64)
    side = 0.5 * torch.sign(mass - truth)
    return {
        "components": rows,
        "mass_misplaced": 0.5 * (mass - truth).abs().sum().item(),
        "mass_misplaced_se": mean_and_error(side[label], "side")["side_se"],
    }
