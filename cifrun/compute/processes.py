"""Several processes as one: which of them this is, and what is summed over all of them.

Where there is one process only, each function gives back what it was given.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def count() -> int:
    """How many processes work together."""
    return dist.get_world_size() if _several() else 1


def rank() -> int:
    """This one's number, from 0."""
    return dist.get_rank() if _several() else 0


def barrier() -> None:
    """Wait until every process is here."""
    most(0)


def agree(flag: bool) -> bool:
    """Whether `flag` is true in any process; each must ask."""
    return bool(most(int(flag)))


def most(value: int) -> int:
    """The largest of the values that the processes have; each must ask."""
    return int(largest(value))


def largest(value: float) -> float:
    """The largest of the numbers that the processes have, none of them NaN; each must ask."""
    if not _several():
        return value
    result = torch.tensor(value, dtype=torch.float64, device=_device())
    dist.all_reduce(result, dist.ReduceOp.MAX)
    return float(result)


def total(x: Tensor) -> Tensor:
    """Σ x over all processes, of the shape of x. Its gradient sums over them too."""
    return _Total.apply(x) if _several() else x


def log_total(x: Tensor) -> Tensor:
    """log Σ e^x over all processes, elementwise; −inf stands for nothing."""
    if not _several():
        return x
    largest = x.clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    largest = largest.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return largest + total(torch.exp(x - largest)).log()


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()


def _device() -> str:
    """Where tensors must be for the processes to exchange them."""
    return "cuda" if dist.get_backend() == "nccl" else "cpu"


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return total(grad)
