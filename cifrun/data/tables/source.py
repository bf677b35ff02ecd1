"""A table's file, whatever its format: the names of its columns, and its rows in batches of float64.

Rows count from 1, below the header.
"""

from __future__ import annotations

import re
import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ...compute import processes
from ...errors import ConfigError
from ...io.text import visible

__all__ = ["FILL", "ROWS", "Batch", "Form", "Source", "at_once", "listed", "typed", "warn"]

#: Rows that are in memory at once, or fewer, to hold at most so many numbers; of text, Arrow's blocks of a megabyte.
ROWS, NUMBERS = 65_536, 2**22
#: Characters of a name that a sentence shows: of a file that is no table, one may hold all of it.
LONGEST = 80
#: What to do about a number that is not there.
FILL = (
    "remove the row, fill it in, or leave out the column; or say dataset.missing=skip to leave out all rows with an "
    "empty cell"
)


def at_once(width: int) -> int:
    """How many rows of `width` columns are in memory at once."""
    return min(ROWS, max(1, NUMBERS // max(1, width)))


def listed(names: Iterable[str], most: int = 12) -> str:
    """The names with commas between them, and how many there are if that is too many to read."""
    names = list(names)
    shown = [visible(name if len(name) <= LONGEST else f"{name[:LONGEST]}…") for name in names[:most]]
    return ", ".join(shown) + (f", … ({len(names)} in all)" if len(names) > most else "")


def typed(names: Sequence[str], most: int = 12) -> str:
    """The word that asks for these columns, as a shell takes it; of many, what to fill in."""
    if len(names) > most:
        return f"dataset.columns=[…], of {listed(names)}"
    return shlex.quote(f"dataset.columns=[{','.join(map(_item, names))}]")


def _item(name: str) -> str:
    """A name in a list, with quotes if it would not be read as it stands."""
    if name and name == name.strip() and not re.search(r"[,'\"\\$]", name) and name[-1] != "]":
        return name
    text = re.sub(r'(\\*)"', lambda found: 2 * found[1] + '\\"', name)
    text = re.sub(r"(\\+)$", lambda found: 2 * found[1], text)
    return f'"{text}"'


def warn(sentence: str) -> None:
    """Say something about a file on stderr, in one process of several."""
    if processes.rank() == 0:
        print(f"cifrun: {sentence}", file=sys.stderr)


class Form(NamedTuple):
    """How a file is read, as `dataset.delimiter`, `header`, `decimal` and `missing` say.

    With `missing` other than "refuse", a number that is not there is NaN.
    """

    delimiter: str | None = None
    header: bool | Literal["auto"] = "auto"
    decimal: Literal["auto", ".", ","] = "auto"
    missing: Literal["refuse", "skip"] = "refuse"


class Batch(NamedTuple):
    """Some rows: one array of numbers a column, float64, and the texts of the label column."""

    columns: list[np.ndarray]
    labels: np.ndarray | None


class Source(ABC):
    """One file of one format.

    Arguments:
        path: The file.
        form: How to read it.

    Attributes:
        names: Of all its columns.
        numbered: Whether the file names none of them, so that they may be asked for by number too.
        hidden: Those that are no data unless they are asked for by name.
        aside: What is in the file beside its data, by what it is: hidden columns, and what can be none.
        alias: What columns may be called too.
    """

    names: list[str]
    numbered = False

    def __init__(self, path: Path, form: Form = Form()) -> None:  # noqa: B008 (it can't be changed)
        self.path, self.form = path, form
        self.names = []
        self.hidden: set[str] = set()
        self.aside: dict[str, list[str]] = {}
        self.alias: dict[str, str] = {}
        self._open()
        self.places: dict[str, int] = {}
        self.repeated: set[str] = set()
        for k, name in enumerate(self.names):
            if self.places.setdefault(name, k) != k:
                self.repeated.add(name)

    @abstractmethod
    def _open(self) -> None:
        """Find the names of the columns."""

    @abstractmethod
    def batches(self, columns: Sequence[str], label: str | None) -> Iterator[Batch]:
        """The rows in order, of these columns."""

    def unusable(self, what: str, column: str | None = None) -> ConfigError:
        """The sentence for a column that holds no numbers; `what` says where and what it holds."""
        others = [name for name in self.names if name != column and name.strip() and name not in self.repeated]
        hint = f"mend it, or name the columns to use, {typed(others)}" if others else "mend it"
        return ConfigError(f"{self.path}: {what}: {hint}")

    def empty(self, row: int, column: str) -> ConfigError:
        """The sentence for a number that is not there."""
        return ConfigError(f"{self.path}: row {row}, column '{column}' is empty: {FILL}")
