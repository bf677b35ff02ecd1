"""Values and Jacobians of small SiLU networks, by carrying D tangents forward beside the value.

    a_1 = W_1 x + b_1,    a_{k+1} = W_{k+1} φ(a_k) + b_{k+1},        φ(a) = a · sigmoid(a)
    T_1 = W_1,            T_{k+1} = W_{k+1} (φ'(a_k) ⊙ T_k)          the result is a_n and ∂a_n/∂x = T_n

All 1 + D rows go through one matrix product a layer. What limits such a pass on a CPU is memory, not arithmetic: so
between two matrix products everything lives in a few buffers that stay in the cache, backward computes φ and φ' anew
from a instead of keeping them, and only a and T are kept. With s = sigmoid(a):

    φ = a s,        φ' = s + φ (1 − s),        φ'' = s + φ' (1 − 2s)

On two threads the plain formulas take 1.15 (plain) to 1.22 times (CIF) a training step of a residual flow.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from . import by_hand
from .once import once

#: Numbers of one layer in a pass without gradients on a CPU: more would leave the cache from one layer to the next.
PASS = 3 * 2**18


def value_and_tangents(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], once: bool = True
) -> tuple[Tensor, Tensor]:
    """A SiLU network's value (batch, out), and its derivatives by each input, (D, batch, out).

    Arguments:
        x: (batch, D).
        weights: W_k, (width of layer k, width of layer k − 1); two or more.
        biases: b_k, (width of layer k,).
        once: Whether to differentiate the result once is enough, as it is for a step of training.

    Otherwise, and compiled, or under mixed precision, it can be differentiated as often as PyTorch's own operations.
    """
    if not by_hand(x) or (torch.is_grad_enabled() and not once):
        return _plain(x, weights, biases)
    if torch.is_grad_enabled():
        return _Tangents.apply(x, *weights, *biases)
    widest = max(len(bias) for bias in biases)
    parts = x.split(max(1, PASS // ((1 + x.shape[1]) * widest))) if x.is_cpu else (x,)
    values, tangents = zip(*(_forward(part, weights, biases, keep=False)[:2] for part in parts), strict=True)
    return (torch.cat(values), torch.cat(tangents, 1)) if len(parts) > 1 else (values[0], tangents[0])


def _plain(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The formulas as they stand: what a compiler fuses by itself."""
    a, tangents = F.linear(x, weights[0], biases[0]), [row.expand(len(x), -1) for row in weights[0].T]
    for weight, bias in zip(weights[1:], biases[1:], strict=True):
        # row by row, so that a compiler makes one loop of it, forward and backward
        a, *tangents = F.linear(_recomputed(_stacked, a, *tangents), weight).unbind()
        a = a + bias
    return a, torch.stack(tangents)


def _stacked(a: Tensor, *tangents: Tensor) -> Tensor:
    """φ(a) stacked on φ'(a) ⊙ T."""
    s = torch.sigmoid(a)
    slope = s * (1 + a * (1 - s))
    return torch.stack([a * s, *(slope * t for t in tangents)])


def _recomputed(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """The function's value, which a compiled backward computes anew instead of keeping it."""
    if not torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)


def _forward(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], keep: bool
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Value, tangents, and (a, T) of each hidden layer if `keep`; else layers take turns with two buffers."""
    a, tangents = torch.addmm(biases[0], x, weights[0].T), weights[0].T[:, None]
    states = [a]
    for k, (weight, bias) in enumerate(zip(weights[1:], biases[1:], strict=True)):
        stacked, _, _ = _activate(a, tangents)
        last = k == len(weights) - 2
        state = _times(stacked, weight, "" if keep or last else f"state {k % 2}")
        a, tangents = state[0].add_(bias), state[1:]
        states.append(state)
    return a, tangents, states[:-1]


class _Tangents(torch.autograd.Function):
    """`value_and_tangents` with few passes over memory; the gradient is written out by hand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        weights, biases = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
        a, tangents, states = _forward(x, weights, biases, keep=True)
        ctx.save_for_backward(x, *weights, *states)
        return a, tangents

    @staticmethod
    @once
    def backward(ctx: Any, grad_value: Tensor, grad_tangents: Tensor) -> tuple[Tensor, ...]:
        x, *saved = ctx.saved_tensors
        layers = len(saved) // 2  # hidden ones; there is one weight more
        weights, states = saved[: layers + 1], saved[layers + 1 :]
        grad = torch.cat([grad_value[None], grad_tangents])
        grad_weights: list[Tensor] = []
        grad_biases: list[Tensor] = []
        for k in range(layers, 0, -1):
            state = states[k - 1]
            a, tangents = (state[0], state[1:]) if k > 1 else (state, weights[0].T[:, None])
            stacked, slope, s = _activate(a, tangents)
            rows = grad.flatten(0, 1)
            grad_weights.append(rows.T @ stacked.flatten(0, 1))
            grad_biases.append(grad[0].sum(0))
            grad = _times(grad, weights[k].T, f"gradient {k % 2}")
            # ∂/∂T_j = φ' ⊙ g_j, and ∂/∂a = φ' ⊙ g_0 + φ'' ⊙ Σ_j g_j ⊙ T_j
            along = torch.mul(grad[1], tangents[0], out=stacked[1])
            for j in range(1, tangents.shape[0]):
                along.addcmul_(grad[1 + j], tangents[j])
            grad.mul_(slope)
            curvature = torch.add(1, s, alpha=-2, out=stacked[0])
            grad[0].addcmul_(along, torch.addcmul(s, slope, curvature, out=curvature))
        grad_weights.append((x.T @ grad[0] + grad[1:].sum(1)).T)
        grad_biases.append(grad[0].sum(0))
        narrow = weights[0].T.contiguous()  # three times as fast for few inputs
        return grad[0] @ narrow.T, *reversed(grad_weights), *reversed(grad_biases)


def _activate(a: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """φ(a) stacked on φ'(a) ⊙ T, φ'(a), and s: each in a buffer, until the next call."""
    stacked = _buffer("stacked", a, (1 + tangents.shape[0], *a.shape))
    s = torch.sigmoid(a, out=_buffer("sigmoid", a, a.shape))
    value = torch.mul(a, s, out=stacked[0])
    slope = torch.sub(1, s, out=_buffer("slope", a, a.shape))
    torch.addcmul(s, value, slope, out=slope)
    torch.mul(tangents, slope, out=stacked[1:])
    return stacked, slope, s


def _times(stacked: Tensor, weight: Tensor, name: str) -> Tensor:
    """`stacked` Wᵀ: in the buffer of that name, if it has one."""
    if not name:
        return F.linear(stacked, weight)
    result = _buffer(name, stacked, (*stacked.shape[:2], len(weight)))
    torch.mm(stacked.flatten(0, 1), weight.T, out=result.flatten(0, 1))
    return result


class _Buffers(threading.local):
    """Memory of this thread: pieces by name, and views of them by name and shape."""

    def __init__(self) -> None:
        self.pieces: dict[str, Tensor] = {}
        self.views: dict[tuple[str, tuple[int, ...], torch.dtype], Tensor] = {}


_buffers = _Buffers()
#: How many views are kept: a training step needs a dozen or two, over and over.
MOST_VIEWS = 200


def _buffer(name: str, like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Memory of this thread under a name, of any content; on a GPU the allocator does this better by itself."""
    if not like.is_cpu:
        return like.new_empty(shape)
    key = (name, shape, like.dtype)
    view = _buffers.views.get(key)
    if view is None:
        with torch.inference_mode(False), torch.no_grad():
            view = _piece(name, like.dtype, math.prod(shape)).view(shape)
        if len(_buffers.views) >= MOST_VIEWS:
            _buffers.views.clear()
        _buffers.views[key] = view
    return view


def _piece(name: str, dtype: torch.dtype, size: int) -> Tensor:
    """So many numbers of the memory under a name, which is made anew if it has fewer, or far more."""
    kept = _buffers.pieces.get(name)
    if kept is None or kept.dtype != dtype or not size <= len(kept) <= 16 * size:
        for key in [key for key in _buffers.views if key[0] == name]:
            del _buffers.views[key]
        kept = _buffers.pieces[name] = torch.empty(size, dtype=dtype)
    return kept[:size]
