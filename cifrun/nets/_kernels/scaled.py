"""Weights under their bounds, and factors on them: those of a network as one node of the graph.

    V_k = r_k min(1, c / σ_k) W_k,        σ_k = ⟨S_k, W_k⟩

where S_k = ∂σ_k/∂W_k is held fixed. With G_k = ∂L/∂V_k and f_k = r_k min(1, c / σ_k):

    ∂L/∂W_k = f_k (G_k − [σ_k > c] ⟨G_k, W_k⟩ S_k / σ_k),        ∂L/∂r_k = f_k ⟨G_k, W_k⟩ / r_k
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import by_hand, differentiable


def scaled(weights: Sequence[Tensor], slopes: Sequence[Tensor], bound: float, ratios: Tensor) -> list[Tensor]:
    """V_k, each shaped as its weight; differentiable in W and r as often as one likes.

    Arguments:
        weights, slopes: W_k and S_k, n of each.
        bound: c.
        ratios: r_k > 0, (n,).
    """
    if not by_hand(ratios):
        return plain(weights, slopes, bound, ratios)
    return list(_Scaled.apply(bound, ratios, *slopes, *weights))


def plain(weights: Sequence[Tensor], slopes: Sequence[Tensor], bound: float, ratios: Tensor) -> list[Tensor]:
    """The formulas as they stand."""
    factors = ratios * bound / _norms(slopes, weights).clamp_min(bound)
    return [weight * factor for weight, factor in zip(weights, factors.unbind(), strict=True)]


def _norms(slopes: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """⟨S_k, W_k⟩, (n,)."""
    return torch.stack([torch.dot(s.flatten(), w.flatten()) for s, w in zip(slopes, weights, strict=True)])


class _Scaled(torch.autograd.Function):
    """`scaled`, of c, r, the slopes and the weights."""

    @staticmethod
    def forward(ctx: Any, bound: float, ratios: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        slopes, weights = _halves(tensors)
        norms = _norms(slopes, weights)
        factors = bound / norms.clamp_min(bound)
        ctx.bound = bound
        ctx.save_for_backward(ratios, norms, factors, *tensors)
        each = (ratios * factors).unbind()
        return tuple(weight * factor for weight, factor in zip(weights, each, strict=True))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        ratios, norms, factors, *tensors = ctx.saved_tensors
        slopes, weights = _halves(tensors)
        if torch.is_grad_enabled():  # somebody differentiates the gradient in turn
            inputs, wanted = (ratios, *weights), (ctx.needs_input_grad[1], *ctx.needs_input_grad[2 + len(slopes) :])
            found = differentiable(plain(weights, slopes, ctx.bound, ratios), inputs, grads, wanted)
            return None, found[0], *[None] * len(slopes), *found[1:]
        along = _norms(grads, weights) * factors
        each = (ratios * factors).unbind()
        back = torch.where(norms > ctx.bound, -ratios * along / norms, 0.0).unbind()
        by_weight = [torch.addcmul(s * b, g, f) for s, b, g, f in zip(slopes, back, grads, each, strict=True)]
        return None, along, *[None] * len(slopes), *by_weight


def _halves(tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Slopes and weights."""
    half = len(tensors) // 2
    return tensors[:half], tensors[half:]
