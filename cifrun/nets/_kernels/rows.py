"""A SiLU network of rows: its value, products with its Jacobian J, and the gradients of both.

    g(x) = W_n φ(W_{n−1} … φ(W_1 x + b_1) … + b_{n−1}),        Jᵀ p = W_1ᵀ (φ'_1 ⊙ W_2ᵀ ( … φ'_{n−1} ⊙ W_nᵀ p))

φ is SiLU, and there are two layers or more. A row is a datum, or a piece of an image. Rows are gone through in parts
that stay in the cache: what lies between x and g(x) is never written as a whole, but for the slopes φ', which products
need.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import silu


def evaluate(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], keep: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """g(x), (rows, out), and if `keep` the slopes φ' of each hidden layer, (rows, width)."""
    value = x.new_empty(len(x), len(weights[-1]))
    slopes = [x.new_empty(len(x), len(bias)) for bias in biases] if keep else []
    for piece in silu.pieces(x, _width(weights)):
        h = x[piece]
        for k, (weight, bias) in enumerate(zip(weights, biases, strict=False)):
            a = torch.addmm(bias, h, weight.T)
            if keep:
                s = torch.sigmoid(a)
                h = a.mul_(s)
                torch.addcmul(s, h, 1 - s, out=slopes[k][piece])
            else:
                h = F.silu(a, inplace=True)
        torch.mm(h, weights[-1].T, out=value[piece])
    return value, slopes


def pulled(p: Tensor, weights: Sequence[Tensor], slopes: Sequence[Tensor]) -> Tensor:
    """Jᵀ p of each row, (rows, in), for p (rows, out)."""
    result = p.new_empty(len(p), weights[0].shape[1])
    for piece in silu.pieces(p, _width(weights)):
        q = p[piece]
        for weight, slope in zip(weights[:0:-1], slopes[::-1], strict=True):
            q = (q @ weight).mul_(slope[piece])
        torch.mm(q, weights[0], out=result[piece])
    return result


def gradients(
    x: Tensor,
    v: Tensor,
    grad_value: Tensor,
    grad_product: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Of ⟨grad_value, g(x)⟩ + ⟨grad_product, J v⟩, by x, the weights and the biases, at fixed v: (rows, in), v too."""
    grad_x = torch.empty_like(x)
    sums: list[Tensor] = []
    for piece in silu.pieces(x, 2 * _width(weights)):
        both = torch.stack([x[piece], v[piece]])
        state = F.linear(both, weights[0])
        a, tangents = state[0].add_(biases[0]), state[1:]
        states = silu.forward(a, tangents, weights[1:-1], biases[1:])
        grad = torch.stack([grad_value[piece], grad_product[piece]])
        grad, grad_weights, grad_biases = silu.backward(grad, a, tangents, states, weights[1:])
        torch.mm(grad[0], weights[0], out=grad_x[piece])
        first = grad.flatten(0, 1).T @ both.flatten(0, 1)
        parts = [first, *grad_weights, *grad_biases]
        if not sums:
            sums = parts
            continue
        for total, part in zip(sums, parts, strict=True):
            total += part
    return grad_x, sums[: len(weights)], sums[len(weights) :]


def _width(weights: Sequence[Tensor]) -> int:
    return max(max(weight.shape) for weight in weights)
