"""What the system is told of how a mapped file is read: by default, a look at one row brings in megabytes around it."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .in_place import Events, Rows

__all__ = ["at_random", "soon"]


def at_random(x: Events) -> None:
    """From now on, read no more of the file that x is mapped from than the pages that are looked at."""
    for extent in _extents(x, torch.zeros(1, dtype=torch.long), torch.tensor([len(x)])):
        _advise("MADV_RANDOM", *extent)


def soon(x: Events, starts: Tensor, rows: int) -> None:
    """Begin to read the `rows` rows of x (N, *shape) that begin at each of `starts`, (batch,), and do not wait."""
    for extent in _extents(x, starts, (starts + rows).clamp(max=len(x))):
        _advise("MADV_WILLNEED", *extent)


def _extents(x: Events, starts: Tensor, stops: Tensor) -> Iterable[tuple[int, int]]:
    """Address and bytes of all from one row to before another, for each pair."""
    if isinstance(x, Rows):
        return x.extents(starts, stops)
    begin, row = x.data_ptr(), x.nbytes // len(x)
    return ((begin + a * row, (b - a) * row) for a, b in zip(starts.tolist(), stops.tolist(), strict=True))


def _advise(name: str, address: int, length: int) -> None:
    """madvise(2) for the pages that hold these bytes; nothing where there is no such call."""
    begin = address // mmap.PAGESIZE * mmap.PAGESIZE
    if (call := _madvise()) is not None and hasattr(mmap, name):
        call(ctypes.c_void_p(begin), ctypes.c_size_t(address + length - begin), getattr(mmap, name))


@cache
def _madvise() -> Any:
    try:
        return ctypes.CDLL(None).madvise
    except (OSError, AttributeError, TypeError):
        return None
