"""A user's table, read from front to back, in pieces, into a file of float32.

Every number is checked as it is written down; the result is a memory-mapped array, (rows, columns). Nothing is dropped
or filled in: what is no finite number is refused with its row and column. If single precision can't tell the numbers
apart, the table is read a second time, into a file of float64.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from ...errors import ConfigError, RunError, did_you_mean
from ..precision import Rounding
from .source import Source, listed

__all__ = ["Precision", "Table", "mapped", "pick", "read", "scratch"]

Precision: TypeAlias = Literal["single", "double", "auto"]


class Table(NamedTuple):
    """What `read` makes of a file: columns' names, numbers (rows, columns), and the code of each row's label."""

    columns: tuple[str, ...]
    values: np.ndarray  # float32 or float64, in a file
    labels: np.ndarray | None  # uint8, in a file


def pick(source: Source, wanted: Sequence[str]) -> list[str]:
    """The columns that are asked for, by name, or by number from 1 where the file names none.

    Raises:
        ConfigError: There is no such column, or it has no name.
    """
    numbers = {str(k + 1): name for k, name in enumerate(source.names)} if source.numbered else {}
    picked = [name if name in source.names else numbers.get(name, name) for name in wanted]
    for name in picked:
        if name not in source.names:
            near = did_you_mean(name, source.names)
            raise ConfigError(f"{source.path} has no column '{name}': it has {listed(source.names)}{near}")
        if not name.strip():
            raise ConfigError(
                f"column {source.names.index(name) + 1} of {source.path} has no name, as if row numbers had been saved "
                f"along: name it, or the columns to use, dataset.columns=[…], of {listed(filter(None, source.names))}"
            )
        if picked.count(name) > 1:
            raise ConfigError(f"column '{name}' of {source.path} is asked for twice")
    return picked


def read(
    source: Source,
    columns: Sequence[str],
    label: str | None = None,
    words: Mapping[str, int] | None = None,
    folder: Path | None = None,
    precision: Precision = "single",
) -> Table:
    """Read the columns, check each number, and keep them in a temporary file that is mapped into memory.

    Arguments:
        precision: In which they are kept; "auto" is double if single precision can't tell them apart.
        label: A column of words; `words` says the code of each, and every row must hold one of them.
        folder: Where the temporary file is; None for $TMPDIR or the system's place.

    Raises:
        ConfigError: a value that is missing, no number, or not finite, with its row and column; a label that is none of
            the words; no rows.
        RunError: there is no room for the temporary file.
    """
    columns = pick(source, columns)
    rounding = Rounding() if precision == "auto" else None
    dtype = np.float64 if precision == "double" else np.float32
    table = _read(source, columns, label, words or {}, folder, dtype, rounding)
    if rounding is not None and rounding.matters:
        return _read(source, columns, label, words or {}, folder, np.float64)
    return table


def _read(
    source: Source,
    columns: Sequence[str],
    label: str | None,
    words: Mapping[str, int],
    folder: Path | None,
    dtype: type[np.floating[Any]],
    rounding: Rounding | None = None,
) -> Table:
    """`read`, in this precision; what single precision takes away is counted in `rounding`."""
    count = 0
    with scratch(str(source.path), folder) as file, scratch(str(source.path), folder) as codes:
        for numbers, labels in source.batches(columns, label):
            single = _single(source, columns, numbers, count)
            if rounding is not None:
                rounding.add(numbers)
            file.write((single if dtype is np.float32 else np.stack(numbers, 1)).data)
            if labels is not None and label is not None:
                codes.write(_codes(source, label, labels, words, count).tobytes())
            count += len(numbers[0])
        if count == 0:
            raise ConfigError(f"{source.path} has no rows")
        values = mapped(file, (count, len(columns)), dtype)
        return Table(tuple(columns), values, None if label is None else mapped(codes, (count,), np.uint8))


@contextmanager
def scratch(origin: str, folder: Path | None = None) -> Iterator[IO[bytes]]:
    """A temporary file without a name, in `folder`, by default $TMPDIR or the system's place; it is gone when nothing
    maps it any more.

    Raises:
        RunError: There is no room for it, or no right to write there.
    """
    try:
        with tempfile.TemporaryFile(prefix="cifrun-", dir=folder) as file:
            yield file
    except OSError as error:
        what = f"{origin} can't be copied to {folder or f'a temporary file in {tempfile.gettempdir()}'}"
        variable = "CIFRUN_DATA" if folder else "TMPDIR"
        raise RunError(f"{what}: {error.strerror or error}; {variable} names another place") from error


def mapped(file: IO[bytes], shape: tuple[int, ...], dtype: type[np.generic] = np.float32) -> np.ndarray:
    """The numbers that were written to `file`, as an array that stays on disk until it is looked at."""
    file.flush()
    return np.memmap(file, dtype, "r+", shape=shape)


def _single(source: Source, columns: Sequence[str], numbers: Sequence[np.ndarray], done: int) -> np.ndarray:
    """Single precision, (rows, columns).

    Raises:
        ConfigError: A number is not finite in it; the sentence names the first.
    """
    with np.errstate(over="ignore"):
        single = np.stack(numbers, 1, dtype=np.float32, casting="same_kind")
    if not np.isfinite(single).all():
        row, k = np.argwhere(~np.isfinite(single))[0]
        value = numbers[k][row]
        if math.isfinite(value):
            what = f"holds {value:g}, more than single precision can hold: change its unit"
            raise ConfigError(f"{source.path}: row {done + row + 1}, column '{columns[k]}' {what}")
        raise ConfigError(
            f"{source.path}: row {done + row + 1}, column '{columns[k]}' holds {value}, which is not finite: "
            f"remove the row, fill it in, or leave out the column"
        )
    return single


def _codes(source: Source, label: str, texts: np.ndarray, words: Mapping[str, int], done: int) -> np.ndarray:
    values, inverse = np.unique(texts.astype(str), return_inverse=True)
    for k, value in enumerate(values):
        if value.strip().lower() not in words:
            row = int((inverse == k).argmax())
            raise ConfigError(
                f"{source.path}: row {done + row + 1}, column '{label}' holds '{value}': it should be one of "
                f"{', '.join(words)}"
            )
    table = np.array([words[value.strip().lower()] for value in values], dtype=np.uint8)
    return table[inverse]
