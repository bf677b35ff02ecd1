"""What the system is told of how a mapped file is read: by default, a look at one row brings in megabytes around it."""

from __future__ import annotations

import ctypes
import mmap
from functools import cache
from typing import Any

from torch import Tensor

__all__ = ["at_random", "soon"]


def at_random(x: Tensor) -> None:
    """From now on, read no more of the file that x is mapped from than the pages that are looked at."""
    _advise("MADV_RANDOM", x.data_ptr(), x.nbytes)


def soon(x: Tensor, starts: Tensor, rows: int) -> None:
    """Begin to read the `rows` rows of x (N, *shape) that begin at each of `starts`, (batch,), and do not wait."""
    row = x.nbytes // len(x)
    for start in starts.tolist():
        _advise("MADV_WILLNEED", x.data_ptr() + start * row, min(rows, len(x) - start) * row)


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
