"""log det(I + J) of a contraction g, J = ∂g/∂x, estimated from its power series: for any number of dimensions.

    log det(I + J) = tr Σ_{k≥1} (−1)^{k+1} J^k / k

The series is cut at a random N and its terms are reweighted by 1/P(N ≥ k) (Russian roulette), each trace being vᵀJ^k v
for one random v; the gradient uses the Neumann series ∂ log det(I + J) = Σ_{k≥0} (−1)^k tr(J^k ∂J), whose memory does
not grow with N. With terms of size ρ^k the variance is about Σ_k ρ^{2k}/P(N ≥ k), so P(N ≥ k) must not fall faster than
κ^{2k}: N is geometric of ratio ½, which alone would do for ρ² < ½, or now and then of ratio κ, with which the sum is
below 20/(1 − κ).

References: Behrmann et al., "Invertible residual networks", ICML 2019 (https://arxiv.org/abs/1811.00995);
Chen et al., "Residual flows for invertible generative modeling", NeurIPS 2019 (https://arxiv.org/abs/1906.02735).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..compute.rng import geometric, probe
from ..nets._kernels.once import once
from ..nets.lipschitz.networks import LipschitzNet

__all__ = ["log_det_unbiased", "more_terms", "roulette", "survival"]

#: P(one more term) in the roulette, and with which probability it is κ instead, for the whole series.
CONTINUE, PATIENT = 0.5, 0.05
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
    return _Unbiased.apply(net.apply_with, weights, terms, x, *net.derived())


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
        ctx: Any, g: Callable[..., Tensor], weights: list[float], terms: Tensor | None, x: Tensor, *theta: Tensor
    ) -> Any:
        fixed = [t.detach() for t in theta]
        with torch.enable_grad():
            inputs = x.detach().requires_grad_()
            value = whole = g(inputs, *fixed)
            v = power = probe(value)
            w, log_det = v.clone(), torch.zeros(len(x), dtype=x.dtype, device=x.device)
            rows: slice | Tensor = slice(None)  # those that the series goes on for
            for k, weight in enumerate(weights, 1):
                scale: float | Tensor = weight
                if terms is not None:
                    longer = terms[rows] >= k
                    if 2 * int(longer.sum()) <= len(inputs):
                        rows = torch.arange(len(x), device=x.device)[rows][longer]
                        inputs, power = x.detach()[rows].requires_grad_(), power[longer]
                        value, longer = g(inputs, *fixed), longer[longer]
                    scale = weight * longer.to(x.dtype).view(-1, *[1] * (x.dim() - 1))
                (power,) = torch.autograd.grad(value, inputs, power, retain_graph=True)
                term = scale * power
                log_det[rows] -= (term * v[rows]).flatten(1).sum(1) / k
                w[rows] += term
        ctx.g, ctx.precision = g, (torch.is_autocast_enabled(x.device.type), torch.get_autocast_dtype(x.device.type))
        ctx.save_for_backward(x, v, w, *theta)
        ctx.set_materialize_grads(False)
        return whole.detach(), log_det

    @staticmethod
    @once
    def backward(ctx: Any, grad_value: Tensor | None, grad_log_det: Tensor | None) -> tuple[Tensor | None, ...]:
        x, v, w, *theta = ctx.saved_tensors
        enabled, dtype = ctx.precision
        with torch.enable_grad(), torch.autocast(x.device.type, dtype, enabled):
            wanted = [
                t.detach().requires_grad_(need) for t, need in zip((x, *theta), ctx.needs_input_grad[3:], strict=True)
            ]
            inputs = wanted[0].requires_grad_()
            value = ctx.g(*wanted)
            outputs = [(value, grad_value)]
            if grad_log_det is not None:
                (product,) = torch.autograd.grad(value, inputs, w, create_graph=True)
                outputs.append(((product * v).flatten(1).sum(1), grad_log_det))
            values, grads = zip(*((value, grad) for value, grad in outputs if grad is not None), strict=True)
            leaves = [t for t in wanted if t.requires_grad]
            found = dict(
                zip(map(id, leaves), torch.autograd.grad(values, leaves, grads, allow_unused=True), strict=True)
            )
        return None, None, None, *(found.get(id(t)) for t in wanted)
