"""Rows of an array that stay in the file in which they are: nothing is copied but what is asked for.

Chosen   some of the numbers 0 … n − 1, of which the k-th can be looked up: 1.5 bits of memory for each of the n
Rows     these rows of an npy file, which can be asked for like those of a tensor

A row i of the file is the k-th of its split if k chosen rows come before it. The file's rows have a bit each, b_i, in
blocks of 128, and each block the number before it:

    k = B_j + Σ_{128 j ≤ l < i} b_l,      j = ⌊i / 128⌋,      B_j = Σ_{l < 128 j} b_l

so that i is found from k by bisection among the B_j, and by counting inside a block.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...errors import RunError

__all__ = ["Chosen", "Events", "Rows", "Stamp", "single", "stamp"]

#: Numbers whose bits are counted together, a multiple of 8 below 256.
BLOCK = 128
#: How many bits of a byte are 1.
ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)

#: What tells, at no cost, whether a file is as it was: inode, bytes, and time of the last change.
Stamp: TypeAlias = tuple[int, int, int]


def stamp(file: Path | int) -> Stamp:
    """The stamp of a file, by its path or its descriptor."""
    status = os.stat(file)
    return status.st_ino, status.st_size, status.st_mtime_ns


def single(x: np.ndarray) -> np.ndarray:
    """x in single precision, by way of double precision as everything that is read; infinite where that is too small.

    It is x itself where that is in single precision.
    """
    with np.errstate(over="ignore"):
        return (x if x.dtype.kind == "f" and x.itemsize <= 8 else x.astype(np.float64)).astype(np.float32, copy=False)


class Chosen:
    """Some of the numbers 0 … count − 1, in their order.

    Arguments:
        count: How many there are to choose from.
    """

    def __init__(self, count: int) -> None:
        blocks = -(-count // BLOCK)
        self._bits = np.zeros((blocks, BLOCK // 8), np.uint8)
        self._before = np.zeros(blocks + 1, np.int64)  # of each block's first number; of a block that is not filled, 0
        self._filled = 0

    def __len__(self) -> int:
        return int(self._before[self._filled])

    def add(self, mask: np.ndarray) -> None:
        """Whether each of the next numbers is chosen, (some,), bool: a multiple of `BLOCK`, but for the last time."""
        padded = np.pad(mask, (0, -len(mask) % BLOCK)).reshape(-1, BLOCK)
        done, self._filled = self._filled, self._filled + len(padded)
        self._bits[done : self._filled] = np.packbits(padded, axis=1)
        self._before[done + 1 : self._filled + 1] = self._before[done] + padded.sum(1).cumsum()

    def at(self, places: np.ndarray) -> np.ndarray:
        """The chosen numbers at these places among them, from 0, (batch,), int64."""
        blocks = np.searchsorted(self._before, places, side="right") - 1
        bits, left = self._bits[blocks], places - self._before[blocks]
        octets, left = _find(ONES[bits], left)
        bits = np.unpackbits(np.take_along_axis(bits, octets[:, None], 1), axis=1)
        return BLOCK * blocks + 8 * octets + _find(bits, left)[0]

    def between(self, start: int, stop: int) -> np.ndarray:
        """Those at the places start … stop − 1, at least one, (stop − start,), int64."""
        first, last = self.at(np.array([start, stop - 1]))
        bits = np.unpackbits(self._bits.reshape(-1)[first // 8 : last // 8 + 1])
        return first + np.flatnonzero(bits[first % 8 : last - first // 8 * 8 + 1])


def _find(counts: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row of counts (batch, groups), uint8: which group holds a place among all that it counts, and where."""
    ends = counts.cumsum(1, dtype=np.uint8)
    groups = (ends > places[:, None]).argmax(1)
    rows = np.arange(len(groups))
    return groups, places - ends[rows, groups] + counts[rows, groups]


class Rows:
    """Some rows of an npy file, as events (n, *shape) of float32, each read when it is asked for.

    It has what is looked at in a tensor of data: `len`, `shape`, `dtype`, `nbytes`, `x[1000:2000]`, `x[indices]`, each
    of which gives a tensor that nothing else refers to; `x[:]` is all of it.

    Arguments:
        path: The file.
        array: What `numpy.load` maps of it, (rows, columns) or (rows,), in C order, of numbers of any kind.
        seen: The file's stamp before `array` was made: if it has another when a row is asked for, that is refused.
        chosen: Which rows; None for all.
        shape: Of an event, as many numbers as there are columns; None for (columns,).

    Errors:
        RunError: the file can't be opened; or it has changed, at once or when a row is asked for.
    """

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(
        self,
        path: Path,
        array: np.memmap,
        seen: Stamp,
        chosen: Chosen | None = None,
        shape: Sequence[int] | None = None,
    ) -> None:
        self._path, self._like, self._seen, self._chosen = path, array, seen, chosen
        # A mapping of its own: what the system is told of how this is read does not hold for other rows of the file.
        try:
            self._file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise RunError(f"{path} can't be read: {error.strerror or error}") from error
        weakref.finalize(self, os.close, self._file)
        self._same()
        with open(self._file, "rb", closefd=False) as stream:
            mapped = np.memmap(stream, array.dtype, "r", array.offset, array.shape)
        self._array = np.asarray(mapped).reshape(len(array), -1)
        event = self._array.shape[1:] if shape is None else shape
        self.shape = torch.Size((len(array) if chosen is None else len(chosen), *event))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Of (n, *shape)."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """What the events take in memory, once they are there."""
        return self.dtype.itemsize * math.prod(self.shape)

    def is_floating_point(self) -> bool:
        """As of a tensor."""
        return True

    def __getitem__(self, which: slice | Tensor) -> Tensor:
        if isinstance(which, slice):
            places = range(*which.indices(len(self)))
            rows: np.ndarray | slice = slice(places.start, places.stop, places.step)
            if self._chosen is not None and len(places) > 0:
                of = self._chosen
                rows = of.between(places.start, places.stop) if places.step == 1 else of.at(np.asarray(places))
        else:
            rows = which.numpy()
            if len(rows) > 0 and not 0 <= rows.min() <= rows.max() < len(self):
                raise IndexError(f"a place among {len(self)} rows is not below {len(self)}, or below 0")
            rows = rows if self._chosen is None else self._chosen.at(rows)
        self._same()  # before: of a file that was cut off, a page that is no more there would end the process
        part = self._array[rows]
        values = single(part.copy() if isinstance(rows, slice) else part)
        self._same()
        return torch.from_numpy(values).view(-1, *self.shape[1:])

    def to(self, device: torch.device) -> Events:
        """On the CPU these, in the file; elsewhere all of them, in memory there."""
        if device.type == "cpu":
            return self
        whole = torch.empty(self.shape, device=device)
        for start in range(0, len(self), 2**16):
            whole[start : start + 2**16] = self[start : start + 2**16].to(device)
        return whole

    def choose(self, chosen: Chosen) -> Rows:
        """Of all rows of the file, these."""
        return Rows(self._path, self._like, self._seen, chosen, self.shape[1:])

    def unflatten(self, dim: int, sizes: Sequence[int]) -> Rows:
        """The same as events of another shape; as that of a tensor, for dim = 1 of a shape (n, columns)."""
        if dim != 1 or self.ndim != 2:
            raise ValueError(f"rows of shape {tuple(self.shape)} are unflattened along dimension 1 of 2, not {dim}")
        return Rows(self._path, self._like, self._seen, self._chosen, sizes)

    def exact(self, start: int, stop: int) -> np.ndarray:
        """Rows of the file as they are there, (stop − start, columns), in double precision."""
        self._same()
        return self._array[start:stop].astype(np.float64)

    def extents(self, starts: Tensor, stops: Tensor) -> Iterator[tuple[int, int]]:
        """Where in memory all from one place to before another is mapped, for each pair: address and bytes."""
        first, last = starts.numpy(), stops.numpy() - 1
        if self._chosen is not None:
            first, last = self._chosen.at(first), self._chosen.at(last)
        begin, row = self._array.ctypes.data, self._array.strides[0]
        return ((begin + a * row, (b + 1 - a) * row) for a, b in zip(first.tolist(), last.tolist(), strict=True))

    def _same(self) -> None:
        if stamp(self._file) != self._seen:
            raise RunError(
                f"{self._path} has changed while it was read: it is read where it is, and has to stay as it is; "
                f"with dataset.keep=true, a copy is read"
            )


#: Data: in memory or mapped as float32, or in a file of another form.
Events: TypeAlias = Tensor | Rows
