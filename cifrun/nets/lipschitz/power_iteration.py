"""Power iteration: the largest singular value of a stack of linear operators, and its vectors.

v ← Wᵀ u / |Wᵀ u|,    u ← W v / |W v|,    σ(W) = uᵀ W v
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["DEFAULT", "Iterations", "converged", "power_iteration", "unit"]


def converged(dtype: torch.dtype) -> float:
    """Part of itself by which σ may still change over ten iterations where it counts as found.

    Its vectors are off by about the root of that, and with them the gradient of σ: 1e-3, and 3e-7 in double precision.
    """
    return 1e-13 if dtype == torch.float64 else 1e-6


class Iterations(NamedTuple):
    """How long the power iterations of a layer go on.

    Arguments:
        train: Most iterations a training step.
        eval: Most iterations in evaluation (they stop when σ has converged).
        tolerance: A training step's iteration stops when σ changes by less than this part of itself; if None, it takes
            all of `train`.
    """

    train: int = 5
    eval: int = 200
    tolerance: float | None = None


DEFAULT = Iterations()


def power_iteration(
    product: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    right: Tensor,
    iterations: int,
    tolerance: float | None = None,
    every: int = 1,
) -> tuple[Tensor, Tensor]:
    """Leading singular vectors of a stack of linear operators: u, v with uᵀ W v → σ(W).

    Arguments:
        product, adjoint: v ↦ W v and u ↦ Wᵀ u, with the layers in the first dimension.
        right: Where to start, (layers, …).
        iterations: How many products with Wᵀ W, at most.
        tolerance: Stop when every σ has changed by less than this part of itself over `every` iterations; None never
            stops early.

    Returns:
        u and v, (layers, …), each of length one.
    """
    v, image = right, product(right)
    before = None
    for k in range(iterations):
        v = unit(adjoint(image))
        image = product(v)
        if tolerance is not None and (k + 1) % every == 0:
            norm = torch.linalg.vector_norm(image.flatten(1), dim=1)
            if before is not None and bool(((norm - before).abs() <= tolerance * norm).all()):
                break
            before = norm
    return unit(image), v


def unit(vectors: Tensor) -> Tensor:
    """Each of the stacked vectors at length one."""
    return F.normalize(vectors.flatten(1), dim=1).view_as(vectors)
