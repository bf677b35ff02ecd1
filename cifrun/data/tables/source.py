"""A table's file, whatever its format: the names of its columns, and its rows in batches of float64.

Rows count from 1, below the header.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ...errors import ConfigError

__all__ = ["ROWS", "Batch", "Source", "at_once", "listed"]

#: Rows that are in memory at once, or fewer, to hold at most so many numbers; of text, Arrow's blocks of a megabyte.
ROWS, NUMBERS = 65_536, 2**22


def at_once(width: int) -> int:
    """How many rows of `width` columns are in memory at once."""
    return min(ROWS, max(1, NUMBERS // max(1, width)))


def listed(names: Iterable[str], most: int = 12) -> str:
    """The names with commas between them, and how many there are if that is too many to read."""
    names = list(names)
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")


class Batch(NamedTuple):
    """Some rows: one array of numbers a column, float64, and the texts of the label column."""

    columns: list[np.ndarray]
    labels: np.ndarray | None


class Source(ABC):
    """One file of one format.

    Arguments:
        path: The file.
        delimiter, header: As `dataset.delimiter` and `dataset.header` say; for text.

    Attributes:
        names: Of all its columns.
        numbered: Whether the file names none of them, so that they may be asked for by number too.
    """

    names: list[str]
    numbered = False

    def __init__(self, path: Path, delimiter: str | None = None, header: bool | Literal["auto"] = "auto") -> None:
        self.path, self.delimiter, self.header = path, delimiter, header
        self.names = []
        self._open()

    @abstractmethod
    def _open(self) -> None:
        """Find the names of the columns."""

    @abstractmethod
    def batches(self, columns: Sequence[str], label: str | None) -> Iterator[Batch]:
        """The rows in order, of these columns."""

    def unusable(self, what: str) -> ConfigError:
        """The sentence for a column that holds no numbers; `what` says where and what it holds."""
        hint = f"mend it, or name the columns to use, dataset.columns=[…], of {listed(self.names)}"
        return ConfigError(f"{self.path}: {what}: {hint}")
