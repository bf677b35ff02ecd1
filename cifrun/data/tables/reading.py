"""A user's table, read from front to back, in pieces, into a file of float32.

Every number is checked as it is written down; the result is a memory-mapped array, (rows, columns). What is no finite
number is refused with its row and column, but for cells that are empty, or NaN, if the user says what to do with their
rows. If single precision can't tell the numbers apart, the table is read a second time, into a file of float64.
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
from .source import FILL, Source, listed, typed

__all__ = ["Missing", "Precision", "Table", "mapped", "pick", "read", "scratch"]

Precision: TypeAlias = Literal["single", "double", "auto"]
#: What is done with rows that have an empty cell: refused, left out, or kept with NaN.
Missing: TypeAlias = Literal["refuse", "skip", "keep"]


class Table(NamedTuple):
    """What `read` makes of a file: columns' names, numbers (rows, columns), the code of each row's label, and how many
    rows were left out.
    """

    columns: tuple[str, ...]
    values: np.ndarray  # float32 or float64, in a file
    labels: np.ndarray | None  # uint8, in a file
    skipped: int = 0


def pick(source: Source, wanted: Sequence[str]) -> list[str]:
    """The columns that are asked for, by name, or by number from 1 where the file names none.

    Raises:
        ConfigError: There is no such column, or it has no name.
    """
    numbers = {str(k + 1): name for k, name in enumerate(source.names)} if source.numbered else {}
    bare = {name.strip(): name for name in source.names} | numbers | source.alias
    picked = [name if name in source.places else bare.get(name, name) for name in wanted]
    seen: set[str] = set()
    for name in picked:
        if name not in source.places:
            near = did_you_mean(name, source.names)
            raise ConfigError(f"{source.path} has no column '{name}': it has {listed(source.names)}{near}")
        if name in source.repeated:
            raise ConfigError(f"{source.path} has two columns '{name}': rename one{_others(source, name)}")
        if not name.strip():
            raise ConfigError(
                f"column {source.places[name] + 1} of {source.path} has no name, as if row numbers had been saved "
                f"along: name it{_others(source, name)}"
            )
        if name in seen:
            raise ConfigError(f"column '{name}' of {source.path} is asked for twice")
        seen.add(name)
    return picked


def _others(source: Source, name: str) -> str:
    """What to type for the columns but this one, and others that have no name of their own."""
    rest = [n for n in source.names if n != name and n.strip() and n not in source.repeated and n not in source.hidden]
    return f", or name the columns to use, {typed(rest)}" if rest else ""


def read(
    source: Source,
    columns: Sequence[str],
    label: str | None = None,
    words: Mapping[str, int] | None = None,
    folder: Path | None = None,
    precision: Precision = "single",
    missing: Missing = "refuse",
) -> Table:
    """Read the columns, check each number, and keep them in a temporary file that is mapped into memory.

    Arguments:
        missing: Of rows with an empty cell; for others than "refuse", the source must have been opened with "skip".
        precision: In which they are kept; "auto" is double if single precision can't tell them apart.
        label: A column of words; `words` says the code of each, and every row must hold one of them.
        folder: Where the temporary file is; None for $TMPDIR or the system's place.

    Raises:
        ConfigError: a value that is missing, no number, or not finite, with its row and column; a label that is none of
            the words; no rows, or none without an empty cell.
        RunError: there is no room for the temporary file.
    """
    columns = pick(source, columns)
    rounding = Rounding() if precision == "auto" else None
    dtype = np.float64 if precision == "double" else np.float32
    table = _read(source, columns, label, words or {}, folder, dtype, missing, rounding)
    if rounding is not None and rounding.matters:
        return _read(source, columns, label, words or {}, folder, np.float64, missing)
    return table


def _read(
    source: Source,
    columns: Sequence[str],
    label: str | None,
    words: Mapping[str, int],
    folder: Path | None,
    dtype: type[np.floating[Any]],
    missing: Missing,
    rounding: Rounding | None = None,
) -> Table:
    """`read`, in this precision; what single precision takes away is counted in `rounding`."""
    done, count = 0, 0
    with scratch(str(source.path), folder) as file, scratch(str(source.path), folder) as codes:
        for batch in source.batches(columns, label):
            single = _single(source, columns, batch.columns, done, missing)
            numbers, coded = batch.columns, None
            if label is not None and batch.labels is not None:
                coded = _codes(source, label, batch.labels, words, done)
            done += len(single)
            if missing == "skip" and not (whole := ~np.isnan(single).any(1)).all():
                single, numbers = single[whole], [column[whole] for column in numbers]
                coded = None if coded is None else coded[whole]
            if rounding is not None:
                rounding.add(numbers)
            file.write((single if dtype is np.float32 else np.stack(numbers, 1)).data)
            if coded is not None:
                codes.write(coded.tobytes())
            count += len(single)
        if count == 0:
            raise ConfigError(f"{source.path} has no rows{' without an empty cell' if done else ''}")
        values = mapped(file, (count, len(columns)), dtype)
        labels = None if label is None else mapped(codes, (count,), np.uint8)
        return Table(tuple(columns), values, labels, done - count)


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


def _single(
    source: Source, columns: Sequence[str], numbers: Sequence[np.ndarray], done: int, missing: Missing
) -> np.ndarray:
    """Single precision, (rows, columns).

    Raises:
        ConfigError: A number is not finite in it, and none that is missing and may be; the sentence names the first.
    """
    with np.errstate(over="ignore"):
        single = np.stack(numbers, 1, dtype=np.float32, casting="same_kind")
    bad = ~np.isfinite(single)
    if missing != "refuse":
        bad &= ~np.isnan(single)
    if bad.any():
        row, k = np.argwhere(bad)[0]
        value = numbers[k][row]
        where = f"{source.path}: row {done + row + 1}, column '{columns[k]}' holds"
        if math.isfinite(value):
            raise ConfigError(f"{where} {value:g}, more than single precision can hold: change its unit")
        hint = FILL if math.isnan(value) else "remove the row, fill it in, or leave out the column"
        raise ConfigError(f"{where} {value}, which is not finite: {hint}")
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
