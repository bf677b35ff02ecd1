"""How far an estimate of log p(x) from importance weights can be trusted.

With weights w_i = p(x, u_i) / q(u_i | x), u_i ~ q, the estimate IWAE_m = log (1/m) Σ w_i is below log p(x) in
expectation. Three things tell by how much.

The tail of the weights. Above a high threshold t, w − t is about generalised-Pareto distributed, of shape k: weights
have finite moments of order up to 1/k. The estimate of k is that of Zhang and Stephens, a posterior mean over a grid of
θ = −k/σ with a profile likelihood,

    k(θ) = (1/n) Σ_i log(1 − θ y_i),    ℓ(θ) = n (log(−θ / k(θ)) − k(θ) − 1),    θ̂ = Σ_j θ_j e^{ℓ(θ_j)} / Σ_j e^{ℓ(θ_j)}

drawn towards ½ as if ten more observations said so (Vehtari et al.). k̂ < 0.5: the weights look as if their variance
were finite; k̂ < 0.7: an average of them can still be relied on; above, its error is larger than its spread shows; above
1, the weights may not even have a mean that could be seen in them. k̂ certifies none of this: it knows the weights that
were drawn, and a part of u that q never proposes leaves no trace in them.

The curve. IWAE_m rises with m; that it is level says little, that it still rises says much.

The bracket. For x drawn from the model itself, the u* that it was made with is an exact draw from p(u | x), and

    E[ log (1/m)(w* + w_2 + … + w_m) ] ≥ log p(x),        w* at u* ~ p(u | x),  w_2, …, w_m at u_i ~ q(u | x)

since its excess is a Kullback–Leibler divergence: the law of (u*, u_2, …) is that of m draws from q, weighted by
(1/m) Σ w_i / p(x). So for such x the mean of log p(x) lies between the two.

References: Zhang, Stephens, "A new and efficient estimation method for the generalized Pareto distribution",
Technometrics 2009; Vehtari, Simpson, Gelman, Yao, Gabry, "Pareto smoothed importance sampling", JMLR 2024
(https://arxiv.org/abs/1507.02646); Grosse, Ghahramani, Adams, "Sandwiching the marginal likelihood using bidirectional
Monte Carlo", 2015 (https://arxiv.org/abs/1511.02543).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..cif.importance import corrections, log_mean_exp, mean_and_error

#: k̂ of weights that do not vary: their tail is bounded, like that of a uniform distribution.
NO_TAIL = -1.0
#: k̂ of weights of which one is NaN or infinite, or all are zero: nothing can be read off them.
NO_WEIGHTS = math.inf
#: Weights that differ by less, relative to the largest, count as not varying: single precision does as much.
NO_VARIATION = 1e-4
#: The least number of weights above the threshold from which a shape is read off.
LEAST_TAIL = 5
#: Above this k̂ an average of weights should not be relied on.
HIGH = 0.7


def pareto_fit(excess: Tensor) -> tuple[Tensor, Tensor]:
    """Shape k and scale σ of a generalised Pareto distribution, P(y > a) = (1 + k a / σ)^{−1/k}.

    Arguments:
        excess: Positive numbers y, (n, batch), n ≥ 2; each column is a sample of its own.

    Returns:
        k and σ, (batch,), float64; k > 0 is a heavy tail. Without the pull towards ½.
    """
    y = excess.double().sort(0).values
    n = len(y)
    grid = 30 + math.isqrt(n)
    j = torch.arange(1, grid + 1, dtype=torch.float64, device=y.device)[:, None]
    quartile = y[math.floor(n / 4 + 0.5) - 1]
    theta = 1 / y[-1] + (1 - torch.sqrt(grid / (j - 0.5))) / (3 * quartile)  # (grid, batch)
    k = torch.stack([torch.log1p(-t * y).mean(0) for t in theta])
    log_likelihood = n * (torch.log(-theta / k) - k - 1)
    best = (torch.softmax(log_likelihood, 0) * theta).sum(0)
    shape = torch.log1p(-best * y).mean(0)
    return shape, -shape / best


def tail(m: int) -> int:
    """How many of m weights count as their tail: a fifth of them, and at most 3√m."""
    return math.ceil(min(m / 5, 3 * math.sqrt(m)))


def pareto_k(log_w: Tensor) -> Tensor:
    """k̂ of the importance weights of each datum, (m, batch) → (batch,), float64.

    It is −1 for weights that do not vary, and ∞ for those of which one is NaN or infinite, or all are zero.

    Raises:
        ValueError: There are fewer than 21 weights, whose tail has fewer than five.
    """
    n = tail(len(log_w))
    if n < LEAST_TAIL:
        raise ValueError(f"{len(log_w)} importance weights have no tail to speak of: it takes at least 21")
    weighed = (log_w < math.inf).all(0) & (log_w > -math.inf).any(0)
    ordered = torch.where(weighed, log_w.double(), 0.0).sort(0).values
    top = torch.exp(ordered[-n:] - ordered[-1])
    excess = top - torch.exp(ordered[-n - 1] - ordered[-1])
    # Rounding makes weights differ that are equal, and others tie with the threshold, above which they must lie.
    varies = excess[-1] > NO_VARIATION
    positive = torch.maximum(excess, torch.finfo(torch.float32).eps * excess[-1])
    excess = torch.where(varies, positive, torch.ones_like(excess))
    shape, _ = pareto_fit(excess)
    shape = (n * shape + 10 * 0.5) / (n + 10)
    return torch.where(weighed, torch.where(varies, shape, NO_TAIL), NO_WEIGHTS)


def verdict(k: float) -> str:
    """What a k̂ means for an average of weights, in words."""
    if k < 0.5:
        return "good: no heavy tail was seen among the weights"
    if k < HIGH:
        return "usable: the tail looks too heavy for a finite variance, so the estimate converges slowly"
    if not k < NO_WEIGHTS:
        return "not to be trusted: there are weights that are no finite numbers, or all are zero"
    if k < 1:
        return "unreliable: the estimate's error is larger than its spread shows"
    return "not to be trusted: the few largest weights decide, and larger ones were not seen"


def curve_counts(most: int) -> list[int]:
    """Those of 1, 2, 5, 10, 20, 50, … of which groups use nearly all of `most` weights, and `most` itself."""
    counts = [c * 10**e for e in range(len(str(most))) for c in (1, 2, 5) if c * 10**e < most]
    return [*(m for m in counts if most % m == 0 or 10 * m <= most), most]


def iwae(log_w: Tensor, m: int, again: Tensor | None = None) -> Tensor:
    """IWAE_m of each datum, averaged over as many disjoint groups of m as there are: (M, batch) → (batch,), nats.

    With `again`, log w under other noise, it is the bound for noisy weights (see `importance`).
    """
    groups = len(log_w) // m
    grouped = log_w[: groups * m].unflatten(0, (groups, m))
    value = log_mean_exp(grouped, dim=1)
    if again is not None:
        value = value + corrections(grouped, again[: groups * m].unflatten(0, (groups, m)), dim=1)
    return value.mean(0)


def upper(log_w_exact: Tensor, log_w: Tensor, m: int) -> Tensor:
    """The upper bound of each datum with m weights, averaged over disjoint groups that share the exact one.

    Arguments:
        log_w_exact: log w at an exact draw from p(u | x), (batch,).
        log_w: log w at draws from q, (M, batch), M ≥ m − 1.
    """
    if m == 1:
        return log_w_exact
    groups = len(log_w) // (m - 1)
    rest = log_w[: groups * (m - 1)].unflatten(0, (groups, m - 1))
    return log_mean_exp(torch.cat([log_w_exact.expand(groups, 1, -1), rest], 1), dim=1).mean(0)


def iwae_curve(log_w: Tensor, again: Tensor | None = None) -> list[dict[str, float]]:
    """IWAE_m for m = 1, 2, 5, … from one set of weights (M, batch), with what is missing to the last.

    Returns:
        Rows {"m", "log_likelihood", "log_likelihood_se", "below", "below_se"}: means over data in nats, with standard
        errors over data; `below` = IWAE_M − IWAE_m, whose error is free of what differs from datum to datum.
    """
    log_w, again = log_w.double(), None if again is None else again.double()
    best = iwae(log_w, len(log_w), again)
    rows = []
    for m in curve_counts(len(log_w)):
        value = iwae(log_w, m, again)
        rows.append({"m": m, **mean_and_error(value, "log_likelihood"), **mean_and_error(best - value, "below")})
    return rows


def bracket(log_w_exact: Tensor, log_w: Tensor, again: Tensor | None = None) -> list[dict[str, float]]:
    """Lower and upper bound of E[log p(x)] over data that the model drew itself, for m = 1, 2, 5, ….

    Arguments:
        log_w_exact, log_w: As for `upper`. Noise in them makes the upper bound larger, and leaves it one.
        again: The weights under other noise, for the lower bound.

    Returns:
        Rows {"m", "lower", "upper", "gap"} and their standard errors, "…_se", in nats; that of the gap is paired.
    """
    log_w_exact, log_w, again = log_w_exact.double(), log_w.double(), None if again is None else again.double()
    rows = []
    for m in curve_counts(len(log_w)):
        low, high = iwae(log_w, m, again), upper(log_w_exact, log_w, m)
        row = {"m": m, **mean_and_error(low, "lower"), **mean_and_error(high, "upper")}
        rows.append(row | mean_and_error(high - low, "gap"))
    return rows
