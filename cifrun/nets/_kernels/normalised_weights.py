"""The weights of several Lipschitz networks of one kind, normalised together in a few batched operations.

A layer's weight W, with its spectral norm σ = ⟨S, W⟩, S = ∂σ/∂W, and ρ and β of the activations around it, becomes

    W̄ = f ρ W,    b̄ = β b,        f = min(1, c / σ)
    ∂/∂W = f ρ G − [σ > c] (f ρ / σ) ⟨G, W⟩ S,    ∂/∂ρ = f ⟨G, W⟩        for the gradient G by W̄

A residual flow has fifty such weights, small ones, for which an operation each would cost more than what it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from ..lipschitz.networks import LipschitzNet

__all__ = ["Together", "fold_together"]


class Together:
    """What `fold_together` gives for some networks, computed when the first of them asks, each once.

    Weights that belong to a graph serve one pass forward and one backward; after that, or for weights that have changed
    meanwhile, a network computes its own.
    """

    def __init__(self, nets: Sequence[LipschitzNet]) -> None:
        self._nets: Sequence[LipschitzNet] | None = nets
        self._mode: Any = None
        self._found: dict[int, tuple[list[int], list[Tensor]]] = {}

    def take(self, net: LipschitzNet) -> list[Tensor] | None:
        """The folded weights of `net`, or None if they are not to be had."""
        if self._nets is not None:
            nets, self._nets = self._nets, None
            self._mode = _mode()
            for member, folded in zip(nets, fold_together(nets), strict=True):
                self._found[id(member)] = _versions(member), folded
        found = self._found.pop(id(net), None)
        if found is None or found[0] != _versions(net) or self._mode != _mode():
            return None
        return found[1]


def _mode() -> tuple[bool, bool]:
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled()


def _versions(net: LipschitzNet) -> list[int]:
    return [layer.weight._version for layer in net.linears]


def fold_together(nets: Sequence[LipschitzNet]) -> list[list[Tensor]]:
    """Weights and after them biases of each network, as its `folded` gives them; of networks whose shapes agree."""
    columns = list(zip(*(net.linears for net in nets), strict=True))  # the layers of one place in all networks
    count, depth = len(nets), len(columns)
    raw: list[Tensor] = [activation.raw_beta for net in nets for activation in net.activations]
    betas = F.softplus(torch.stack(raw)) if raw else columns[0][0].weight.new_empty(0)
    betas = betas.unflatten(0, (count, depth - 1))
    slopes = [column[0].slopes(column) for column in columns]
    bound = columns[0][0].bound
    weights = [layer.weight for column in columns for layer in column]
    biases = [layer.bias for column in columns[:-1] for layer in column]
    folded = _Fold.apply(slopes, bound, nets[0].weight_factors(betas), betas, *weights, *biases)
    last = [layer.bias for layer in columns[-1]]
    return [[*folded[k::count], last[k]] for k in range(count)]


class _Fold(torch.autograd.Function):
    """W̄ and b̄, a network after the other in each place."""

    @staticmethod
    def forward(
        ctx: Any, slopes: list[Tensor], bound: float, ratios: Tensor, betas: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        count, depth = ratios.shape
        stacks = [torch.stack(parameters[k * count : (k + 1) * count]) for k in range(2 * depth - 1)]
        norms = torch.stack([_inner(w, s) for w, s in zip(stacks, slopes, strict=False)], 1)
        factors = bound / norms.clamp_min(bound)
        scales = torch.cat([factors * ratios, betas], 1)
        ctx.save_for_backward(norms, factors, scales, *slopes, *stacks)
        ctx.bound = bound
        scaled = [stack * _as_column(scales, k, stack) for k, stack in enumerate(stacks)]
        return tuple(tensor for stack in scaled for tensor in stack.unbind())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        norms, factors, scales, *saved = ctx.saved_tensors
        count, depth = norms.shape
        slopes, stacks = saved[:depth], saved[depth:]
        stacked = [torch.stack(grads[k * count : (k + 1) * count]) for k in range(len(stacks))]
        inner = torch.stack([_inner(g, w) for g, w in zip(stacked, stacks, strict=True)], 1)
        along = (norms > ctx.bound) * scales[:, :depth] / norms * inner[:, :depth]  # minus the gradient by σ
        for k, grad in enumerate(stacked):
            grad.mul_(_as_column(scales, k, grad))
            if k < depth:
                grad.addcmul_(_as_column(along, k, grad), slopes[k], value=-1)
        parameters = [tensor for grad in stacked for tensor in grad.unbind()]
        return None, None, factors * inner[:, :depth], inner[:, depth:], *parameters


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """⟨a, b⟩ of each of the stacked tensors."""
    return (a * b).flatten(1).sum(1)


def _as_column(matrix: Tensor, k: int, like: Tensor) -> Tensor:
    """Column k, a number for each of the stacked tensors, to multiply them by."""
    return matrix[:, k].view(-1, *[1] * (like.dim() - 1))
