"""log det(I + J) of a contraction g, J = ∂g/∂x, estimated from its power series: for any number of dimensions.

    log det(I + J) = tr Σ_{k≥1} (−1)^{k+1} J^k / k

The series is cut at a random N and its terms are reweighted by 1/P(N ≥ k) (Russian roulette), each trace being vᵀJ^k v
for one random v; the gradient uses the Neumann series ∂ log det(I + J) = Σ_{k≥0} (−1)^k tr(J^k ∂J), whose memory does
not grow with N. With terms of size ρ^k the variance is about Σ_k ρ^{2k}/P(N ≥ k), so P(N ≥ k) must not fall faster than
κ^{2k}: N is geometric of ratio ½, which alone would do for ρ² < ½, or now and then of ratio κ, with which the sum is
below 100/(1 − κ). At κ = 0.98 that takes 3.5 terms on average, where ratio ½ alone takes 3.

References: Behrmann et al., "Invertible residual networks", ICML 2019 (https://arxiv.org/abs/1811.00995);
Chen et al., "Residual flows for invertible generative modeling", NeurIPS 2019 (https://arxiv.org/abs/1906.02735).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..compute.rng import geometric, probe
from ..nets._kernels.once import once
from ..nets.lipschitz.networks import LipschitzNet
from ..nets.lipschitz.products import Products

__all__ = ["log_det_unbiased", "more_terms", "roulette", "survival"]

#: P(one more term) in the roulette, and with which probability it is κ instead, for the whole series.
CONTINUE, PATIENT = 0.5, 0.01
#: Series that would be longer with less than this probability end.
RARE = 1e-9


def log_det_unbiased(net: LipschitzNet, x: Tensor, exact_terms: int, *, each: bool = False) -> tuple[Tensor, Tensor]:
    """g(x), and an unbiased estimate of log det(I + ∂g/∂x) with an unbiased gradient.

    The value is Σ_{k=1}^{N} (−1)^{k+1}/(k P(N ≥ k)) vᵀJ^k v. Its gradient in x and in the parameters is that of wᵀ J v
    at w = Σ_{k=0}^{N} (−1)^k/P(N ≥ k) (Jᵀ)^k v held fixed. Only x, v and w are kept for backward, whatever N and the
    width of g: what lies inside of g is computed once more there. Both results can be differentiated once.

    Arguments:
        net: g, (batch, *event) → (batch, *event).
        x: (batch, *event).
        exact_terms: Terms taken with certainty; more follow, each with probability 1/2, or κ (see `survival`).
        each: Draw N for each row, so that the estimates of different rows are independent; else once for all, which
            costs less, as no row waits for the longest series.

    Returns:
        g(x), (batch, *event), and the estimate, (batch,), in nats.
    """
    if torch.is_inference_mode_enabled():  # the series needs derivatives even where the caller wants none
        with torch.inference_mode(False), torch.no_grad():
            return log_det_unbiased(net, x.clone(), exact_terms, each=each)
    kappa = max(CONTINUE, getattr(net, "lipschitz", CONTINUE))
    terms = exact_terms + more_terms(kappa, probe(x.detach().new_empty(len(x)))) if each and len(x) else None
    weights = roulette(kappa, exact_terms, None if terms is None else int(terms.max()))
    g, theta = net.products(x)
    return _Unbiased.apply(g, weights, terms, x, *theta)


def roulette(kappa: float, exact_terms: int, terms: int | None = None) -> list[float]:
    """The weights (−1)^k / P(N ≥ k) of a number N of terms, k = 1 … N; a random one if it is not given."""
    if terms is None:
        terms = exact_terms + geometric(1 - (kappa if geometric(PATIENT) == 1 else CONTINUE)) - 1
    return [(-1) ** k / survival(k - exact_terms, kappa) for k in range(1, terms + 1)]


def more_terms(kappa: float, normal: Tensor) -> Tensor:
    """A number of terms after the exact ones for each of some standard normal numbers n: the k with P(≥ k) > Φ(n)."""
    last = max(1, math.ceil(math.log(RARE / PATIENT) / math.log(kappa)))
    above = torch.tensor([survival(k, kappa) for k in range(1, last + 1)], dtype=torch.float64, device=normal.device)
    return torch.searchsorted(-above, -torch.special.ndtr(normal.double()))


def survival(more: int, kappa: float) -> float:
    """P(at least so many terms after the exact ones): (1 − ε) 2^{−more} + ε κ^{more}; 1 for none."""
    return (1 - PATIENT) * CONTINUE ** max(0, more) + PATIENT * kappa ** max(0, more)


class _Unbiased(torch.autograd.Function):
    """g(x; θ) and the estimate of `log_det_unbiased`, for a function g of x and of tensors θ.

    With as many terms for each row as `terms` says, (batch,), or as there are weights.
    """

    @staticmethod
    def forward(  # the rows whose series have ended are left out as soon as they are half of all
        ctx: Any, g: Products, weights: list[float], terms: Tensor | None, x: Tensor, *theta: Tensor
    ) -> Any:
        value, pulled = g.at(x, *theta)
        v = power = probe(value)
        w, series = v.clone(), torch.zeros_like(v)
        rows: slice | Tensor = slice(None)  # those that the series goes on for
        for k, weight in enumerate(weights, 1):
            if terms is None:
                power = pulled(power)
                w.add_(power, alpha=weight)
                series.add_(power, alpha=weight / k)
                continue
            longer = terms[rows] >= k
            if 2 * int(longer.sum()) <= len(longer):
                rows = torch.arange(len(x), device=x.device)[rows][longer]
                power = power[longer]
                _, pulled = g.at(x[rows], *theta)
                longer = longer[longer]
            power = pulled(power)
            term = power * (weight * longer.to(x.dtype).view(-1, *[1] * (x.dim() - 1)))
            w[rows] += term
            series[rows] += term / k
        ctx.g, ctx.precision = g, (torch.is_autocast_enabled(x.device.type), torch.get_autocast_dtype(x.device.type))
        ctx.save_for_backward(x, v, w, *theta)
        return value, -(series * v).flatten(1).sum(1)

    @staticmethod
    @once
    def backward(ctx: Any, grad_value: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
        x, v, w, *theta = ctx.saved_tensors
        enabled, dtype = ctx.precision
        weighted = w * grad_log_det.view(-1, *[1] * (x.dim() - 1))
        with torch.autocast(x.device.type, dtype, enabled):
            return None, None, None, *ctx.g.gradients(x, v, grad_value, weighted, *theta)
