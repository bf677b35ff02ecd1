"""Data that may be larger than memory, a piece at a time, and sums over the pieces in double precision."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

__all__ = ["coordinates", "pieces", "total", "values"]

#: Numbers that are held at once in double precision.
AT_ONCE = 2**18


def pieces(x: Tensor) -> Iterator[Tensor]:
    """The events x (N, *shape) in pieces of at most about `AT_ONCE` numbers, as views."""
    size = max(1, AT_ONCE // max(1, math.prod(x.shape[1:])))
    return (x[start : start + size] for start in range(0, len(x), size))


def values(x: Tensor) -> Iterator[Tensor]:
    """Pieces of x, each (coordinates or channels, values)."""
    return (piece.transpose(0, 1).flatten(1) for piece in pieces(x))


def coordinates(x: Tensor) -> Iterator[Tensor]:
    """`values` in float64."""
    return (piece.double() for piece in values(x))


def total(parts: Iterable[Tensor]) -> Tensor:
    """The sum of all parts, float64."""
    result = torch.zeros((), dtype=torch.float64)
    for part in parts:  # not kept: small tensors between large ones would pin the memory of each
        result = result + part
    return result
