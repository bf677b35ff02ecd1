"""What passes through a network of SiLU carry with them: values stacked on tangents, and the gradients of both.

    a_{k+1} = W_{k+1} φ(a_k) + b_{k+1},        T_{k+1} = W_{k+1} (φ'(a_k) ⊙ T_k),        φ(a) = a · sigmoid(a)

All rows, of the value and of the tangents, go through one matrix product a layer. What limits such a pass on a CPU is
memory, not arithmetic: so between two matrix products everything lives in a few buffers that stay in the cache,
backward computes φ and φ' anew from a instead of keeping them, and only a and T are kept. With s = sigmoid(a):

    φ = a s,        φ' = s + φ (1 − s),        φ'' = s + φ' (1 − 2s)
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: Numbers of one layer in a pass on a CPU: more would leave the cache from one layer to the next.
PASS = 2**18


def pieces(x: Tensor, numbers: int) -> list[slice]:
    """The rows of x in parts that stay in the cache, where each takes so many numbers in the widest layer."""
    size = max(1, PASS // numbers) if x.is_cpu else max(1, len(x))
    return [slice(start, start + size) for start in range(0, max(1, len(x)), size)]


def forward(
    a: Tensor, tangents: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], keep: bool = True
) -> list[Tensor]:
    """a stacked on T after each of more layers, (1 + directions, rows, width).

    Arguments:
        a: (rows, width).
        tangents: (directions, rows, width), where rows may be 1 for all.
        weights, biases: Of the layers that follow.
        keep: Whether all of it is for `backward`; else layers take turns with two buffers, until the last.
    """
    states: list[Tensor] = []
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        stacked, _, _ = _activate(a, tangents)
        last = k == len(weights) - 1
        state = _times(stacked, weight, "" if keep or last else f"state {k % 2}")
        a, tangents = state[0].add_(bias), state[1:]
        states.append(state)
    return states


def backward(
    grad: Tensor, a: Tensor, tangents: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Gradients at a and T, of the weights, and of the biases from that of a on, but for the last.

    Arguments:
        grad: Those after the last weight, (1 + directions, rows, width).
        a, tangents, states: What `forward` began with, and what it gave, but for what comes after the last weight.
    """
    before = [(a, tangents), *((state[0], state[1:]) for state in states)]
    grad_weights: list[Tensor] = []
    grad_biases: list[Tensor] = []
    for k in range(len(weights) - 1, -1, -1):
        a, tangents = before[k]
        stacked, slope, s = _activate(a, tangents)
        grad_weights.append(grad.flatten(0, 1).T @ stacked.flatten(0, 1))
        grad = _times(grad, weights[k].T, f"gradient {k % 2}")
        # ∂/∂T_j = φ' ⊙ g_j, and ∂/∂a = φ' ⊙ g_0 + φ'' ⊙ Σ_j g_j ⊙ T_j
        along = torch.mul(grad[1], tangents[0], out=stacked[1])
        for j in range(1, tangents.shape[0]):
            along.addcmul_(grad[1 + j], tangents[j])
        grad.mul_(slope)
        curvature = torch.add(1, s, alpha=-2, out=stacked[0])
        grad[0].addcmul_(along, torch.addcmul(s, slope, curvature, out=curvature))
        grad_biases.append(grad[0].sum(0))
    return grad, grad_weights[::-1], grad_biases[::-1]


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
