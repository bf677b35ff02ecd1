"""Whether single precision has room for some numbers, given how much they vary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from .pieces import values

__all__ = ["Rounding", "loses"]

#: Of a standard deviation, the share that rounding may take away, as the root of the mean square. Where numbers are an
#: eighth of a million times what they vary, and of any digits, it is as large as this.
LOST = 1 / 3000


class Rounding:
    """What single precision takes away from each of some columns, a batch of rows at a time."""

    def __init__(self) -> None:
        self._count = 0
        self._start: np.ndarray | None = None  # sums are of differences from the first row
        self._sums = np.zeros(3)

    def add(self, columns: Sequence[np.ndarray]) -> None:
        """Count rows: an array of numbers in double precision for each column."""
        if not len(columns[0]):
            return
        if self._start is None:
            self._start = np.array([column[0] for column in columns])
            self._sums = np.zeros((3, len(columns)))
        for k, column in enumerate(columns):
            with np.errstate(over="ignore", invalid="ignore"):
                moved, lost = column - self._start[k], column - column.astype(np.float32)
                self._sums[:, k] += moved.sum(), moved @ moved, lost @ lost
        self._count += len(columns[0])

    @property
    def matters(self) -> bool:
        """Whether it is much of the standard deviation of some column; not where a column does not vary."""
        if not self._count:
            return False
        mean, square, lost = self._sums / self._count
        variance = square - mean**2
        return bool(((lost > LOST**2 * variance) & (variance > 1e-12 * square)).any())


def loses(x: Tensor) -> bool:
    """Whether single precision takes much away from events x, (N, *shape), in double precision."""
    rounding = Rounding()
    for piece in values(x):
        rounding.add(list(piece.detach().cpu().double().numpy()))
    return rounding.matters
