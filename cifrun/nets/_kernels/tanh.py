"""Networks of tanh, on a CPU in single precision by way of a sigmoid, with the gradient written out by hand.

torch.tanh takes four times as long as torch.sigmoid there. tanh a = 2σ(2a) − 1 is off by 2e-7 at most, a few times what
torch.tanh is off by, and as much as a network's products are. In a network

    h_0 = x,    h_k = tanh(W_k h_{k−1} + b_k),    y = W_n h_{n−1} + b_n

the factors go into the matrix products, and with s_k = σ(2a_k) an activation is one operation, in place:

    2a_k = 4 W_k s_{k−1} + 2 (b_k − W_k 1),        ∂/∂a_k = 4 s_k (1 − s_k) ⊙ ∂/∂h_k

One node of the graph stands for a whole network, as each operation on a small network costs the same, however small.
Where the layers are narrow, a batch lies turned inside, with its features first: (width, batch). Their products then
take a third to a sixth of the time; those of wide layers take longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import by_hand, differentiable

__all__ = ["Gradients", "gradients", "is_narrow", "plain", "run", "tanh_network", "to_input"]

#: The widest hidden layer for which a batch is turned.
NARROW = 16


def tanh_network(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """A tanh network's output, (batch, out); differentiable as often as one likes.

    Arguments:
        x: (batch, in).
        weights: W_k, (width of layer k, width of layer k − 1); one or more.
        biases: b_k, (width of layer k,).
    """
    if x.dtype != torch.float32 or not x.is_cpu or len(weights) == 1 or not by_hand(x):
        return plain(x, weights, biases)
    if torch.is_grad_enabled():
        return _TanhNetwork.apply(x, *weights, *biases)
    turned = is_narrow(weights)
    return _turn(run(_turn(x, turned), weights, biases, turned)[0], turned)


def plain(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """The formulas as they stand."""
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = torch.tanh(F.linear(x, weight, bias))
    return F.linear(x, weights[-1], biases[-1])


def is_narrow(weights: Sequence[Tensor]) -> bool:
    """Whether a batch should be turned for a network."""
    return all(len(weight) <= NARROW for weight in weights[:-1])


def run(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], turned: bool) -> tuple[Tensor, list[Tensor]]:
    """y, and the s_k of the hidden layers: each (batch, width), as x is; turned, (width, batch)."""
    s = _affine(x, weights[0], biases[0], turned, alpha=2, beta=2).sigmoid_()
    states = [s]
    for weight, bias in zip(weights[1:-1], biases[1:-1], strict=True):
        s = _affine(s, weight, bias - weight.sum(1), turned, alpha=4, beta=2).sigmoid_()
        states.append(s)
    return _affine(s, weights[-1], biases[-1] - weights[-1].sum(1), turned, alpha=2), states


class Gradients(NamedTuple):
    """Those of a scalar with respect to a_1, as it lies, and to the weights and then the biases."""

    first: Tensor
    parameters: list[Tensor]


def gradients(grad: Tensor, x: Tensor, weights: Sequence[Tensor], states: Sequence[Tensor], turned: bool) -> Gradients:
    """The chain rule, from the gradient with respect to y and what `run` told; `grad` and x lie as there."""
    along = 1 if turned else 0
    grad_weights: list[Tensor] = []
    grad_biases: list[Tensor] = []
    for weight, s in zip(reversed(weights[1:]), reversed(states), strict=True):
        grad_biases.append(grad.sum(along))
        # ∂/∂W = ∂/∂a hᵀ with h = 2s − 1
        product = (grad, s.T) if turned else (grad.T, s)
        grad_weights.append(torch.addmm(grad_biases[-1][:, None], *product, beta=-1, alpha=2))
        grad = _affine(grad, weight.T, weight[0], turned, alpha=4, beta=0)
        torch.ops.aten.sigmoid_backward.grad_input(grad, s, grad_input=grad)
    grad_biases.append(grad.sum(along))
    grad_weights.append(grad @ x.T if turned else (x.T @ grad).T)
    return Gradients(grad, grad_weights[::-1] + grad_biases[::-1])


def to_input(first: Tensor, weights: Sequence[Tensor], turned: bool) -> Tensor:
    """The gradient with respect to x, from that with respect to a_1."""
    narrow = weights[0].T.contiguous()  # three times as fast for few inputs
    return narrow @ first if turned else first @ narrow.T


def _affine(x: Tensor, weight: Tensor, bias: Tensor, turned: bool, alpha: float, beta: float = 1) -> Tensor:
    """α x Wᵀ + β b; turned, α W x + β b. If β = 0, b is ignored."""
    if turned:
        return torch.addmm(bias[:, None], weight, x, alpha=alpha, beta=beta)
    return torch.addmm(bias, x, weight.T, alpha=alpha, beta=beta)


def _turn(x: Tensor, turned: bool) -> Tensor:
    return x.T if turned else x


class _TanhNetwork(torch.autograd.Function):
    """`tanh_network`, with the gradient written out by hand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        layers = len(parameters) // 2
        weights, turned = parameters[:layers], is_narrow(parameters[:layers])
        y, states = run(_turn(x, turned), weights, parameters[layers:], turned)
        ctx.save_for_backward(x, *parameters, *states)
        return _turn(y, turned)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        layers = (len(saved) + 1) // 3
        weights, biases, states = saved[:layers], saved[layers : 2 * layers], saved[2 * layers :]
        if torch.is_grad_enabled():  # somebody will differentiate this gradient
            return differentiable(plain(x, weights, biases), (x, *weights, *biases), grad, ctx.needs_input_grad)
        turned = is_narrow(weights)
        found = gradients(_turn(grad, turned), _turn(x, turned), weights, states, turned)
        grad_x = _turn(to_input(found.first, weights, turned), turned) if ctx.needs_input_grad[0] else None
        return grad_x, *found.parameters
