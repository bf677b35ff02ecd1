"""How many data a model may be given at once: what fits into a share of the memory that is free."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .config import Config
from .model import Model
from .rng import forked

__all__ = ["chunk_size", "numbers_a_row"]

#: The chunk where memory is no question. More makes nothing faster, and less would change the order of random draws.
MOST = 10_000
#: The share of free memory to fill, and how many tensors of the largest size are alive at one time.
SHARE, ALIVE = 0.25, 8

_measured: WeakKeyDictionary[Model, int] = WeakKeyDictionary()  # numbers a row, which do not depend on the weights


def chunk_size(model: Model, config: Config) -> int:
    """`eval.chunk_size`; for "auto" 10 000, or if that is more than memory allows, the power of two that it does."""
    if config.eval.chunk_size != "auto":
        return config.eval.chunk_size
    like = next(model.parameters())
    free = _free_bytes(like.device)
    if free is None:
        return MOST
    if model not in _measured:
        _measured[model] = numbers_a_row(model)
    rows = int(SHARE * free / (ALIVE * like.element_size() * _measured[model]))
    return MOST if rows >= MOST else 2 ** max(0, rows.bit_length() - 1)


@torch.no_grad()
def numbers_a_row(model: Model) -> int:
    """By how many numbers the largest tensor of a forward pass grows with each datum."""
    training, like = model.training, next(model.parameters())
    model.eval()
    small, large = (torch.zeros((rows, *model.shape), dtype=like.dtype, device=like.device) for rows in (8, 16))
    with forked(0):
        model.log_w(small)  # leaves what is kept from call to call
    passes = []
    for x in (small, large):
        with forked(0), _Sizes() as seen:
            model.log_w(x)
        passes.append(seen.sizes)
    model.train(training)
    return max(1, *((more - less) // 8 for less, more in zip(*passes, strict=False)))


class _Sizes(TorchDispatchMode):
    """Takes note of the sizes of all tensors that operations inside give."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if "empty" not in func.overloadpacket.__name__:  # memory that is kept is made in one pass and not in the next
            self.sizes += [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        return result


def _free_bytes(device: torch.device) -> int | None:
    """Memory that is free on the device; None if the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
