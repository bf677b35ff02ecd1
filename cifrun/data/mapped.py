"""Rows of a file that are mapped into memory: the system reads a page when it is looked at, and may take it back.

If nothing is said, a look at one row makes the system read megabytes around it. So whoever knows which rows come next
says so (madvise(2), where there is such a call).
"""

from __future__ import annotations

import math
import mmap
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Mapped:
    """The numbers of a file as a tensor that stays on disk.

    Arguments:
        file: Holds the numbers, row after row; it may be closed afterwards. If it can't be written, nor may `rows`.
        shape: (N, *event).
        dtype: float32 or float64.

    Attributes:
        rows: The numbers, (N, *event).
    """

    def __init__(self, file: IO[bytes], shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> None:
        self._map: mmap.mmap | None = None
        dtype = np.dtype(dtype)
        if 0 in shape:  # an empty file can't be mapped
            self.rows = torch.from_numpy(np.empty(shape, dtype))
            return
        if file.writable():
            file.flush()
        access = mmap.ACCESS_WRITE if file.writable() else mmap.ACCESS_READ
        self._map = mmap.mmap(file.fileno(), dtype.itemsize * math.prod(shape), access=access)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that it has no tensors that can't be written to
            self.rows = torch.from_numpy(np.frombuffer(self._map, dtype).reshape(*shape))

    def at_random(self) -> None:
        """From now on, read only the pages that are looked at."""
        self._advise("MADV_RANDOM", 0, self.rows.nbytes)

    def will_need(self, starts: Tensor, rows: int) -> None:
        """Begin to read `rows` rows from each of `starts`, (batch,), and do not wait."""
        size = self.rows.nbytes // max(1, len(self.rows))
        for start in starts.tolist():
            self._advise("MADV_WILLNEED", start * size, rows * size)

    def _advise(self, name: str, start: int, length: int) -> None:
        if self._map is not None and hasattr(mmap, name):
            begin = start // mmap.PAGESIZE * mmap.PAGESIZE
            with suppress(OSError):  # it is only advice
                self._map.madvise(getattr(mmap, name), begin, start + length - begin)
