"""What a map may ask of a whole batch, whoever holds its other rows: a sum or a largest value over all of them.

Outside of training, and where one process has the whole batch, each function gives back what it was given.
"""

from __future__ import annotations

from torch import Tensor

from . import processes
from .rng import is_shared

__all__ = ["largest_of_batch", "sum_over_batch"]


def sum_over_batch(x: Tensor) -> Tensor:
    """Σ x over all processes that share a batch, of the shape of x. Its gradient sums over them too."""
    return processes.total(x)


def largest_of_batch(value: float) -> float:
    """The largest of the numbers, none of them NaN, that the processes have which share a batch."""
    return processes.largest(value) if is_shared() else value
