"""The rows of a table, each to its split, a piece at a time: the table may be larger than memory."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from ...errors import RunError
from ..mapped import Mapped
from ..order.permutation import LARGE, Drawn, Keyed, Permutation
from .reading import Table, scratch
from .source import ROWS, at_once

__all__ = ["LEFT_OUT", "Assignment", "kept", "split"]

#: The code of a row that is in no split.
LEFT_OUT = 3
#: The files of a table that is kept; what they end in says the precision.
SPLITS = ("train", "valid", "test")


class Assignment:
    """The split of each row: 0, 1, 2 for training, validation, test; `LEFT_OUT` for those beyond `most`.

    Each row has a place in a random order of all; the first n·f_test places are the test set, those that follow the
    validation set. Up to `permutation.LARGE` rows the order is drawn; beyond, it is a keyed permutation.

    Arguments:
        count: Rows of the table, n.
        fractions: Of validation and test points: of n rows n·fraction, rounded down, and at least one.
        seed: Of the order, also of which rows are left out.
        most: At most so many training, validation and test points.
        given: The splits, (count,), where the table says them; the order then tells only who is left out.
    """

    def __init__(
        self,
        count: int,
        fractions: tuple[float, float],
        seed: int,
        most: Sequence[int | None] = (None, None, None),
        given: np.ndarray | None = None,
    ) -> None:
        self.count = count
        self._given = given
        valid, test = (min(count, max(1, int(fraction * count))) for fraction in fractions)
        begins = [test + valid, test, 0]
        ends = [count, test + valid, test]
        if given is not None:
            begins, ends = [0, 0, 0], [count, count, count]
        self._order: Permutation | None = None  # if the splits are given, and all of their rows are used
        if given is None or any(limit is not None for limit in most):
            self._order = order = Keyed(count, seed) if count > LARGE else Drawn(count, seed, inverted=True)
            for code, limit in enumerate(most):
                if limit is not None:
                    end = begins[code] + limit if given is None else _end(given, code, limit, order)
                    ends[code] = min(ends[code], end)
        self._ranges = list(zip(begins, ends, strict=True))

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """The splits of the rows start … stop − 1, from 0, (stop − start,), uint8."""
        given = None if self._given is None else np.asarray(self._given[start:stop])
        if self._order is None:
            return np.asarray(given)
        places = self._order(torch.arange(start, stop)).numpy()
        codes = np.full(stop - start, LEFT_OUT, dtype=np.uint8)
        for code, (begin, end) in enumerate(self._ranges):
            inside = (places >= begin) & (places < end)
            codes[inside if given is None else inside & (given == code)] = code
        return codes


def _end(given: np.ndarray, code: int, limit: int, order: Permutation) -> int:
    """The place in `order` before which `limit` rows of a given split are, or all if there are no more."""
    bound, found = len(given), np.empty(0, dtype=np.int64)
    parts, size = [found], 0
    for start in range(0, len(given), ROWS):
        rows = start + np.flatnonzero(given[start : start + ROWS] == code)
        places = order(torch.from_numpy(rows)).numpy()
        parts.append(places[places < bound])
        size += len(parts[-1])
        if start + ROWS >= len(given) or size > 2 * limit + ROWS:
            found = np.concatenate(parts)
            if len(found) > limit:
                found = np.partition(found, limit)[: limit + 1]
                bound = int(found[limit])
            parts, size = [found], len(found)
    return bound


def split(table: Table, codes: Assignment, origin: str) -> list[Mapped]:
    """The rows of each split in the order and the precision of the table, in files that go when nothing maps them."""
    width = table.values.shape[1]
    with ExitStack() as stack:
        files = [stack.enter_context(scratch(origin)) for _ in SPLITS]
        counts = _distribute(table, codes, files)
        dtype = table.values.dtype
        return [Mapped(file, (count, width), dtype) for file, count in zip(files, counts, strict=True)]


def kept(
    folder: Path, content: str, settings: str, width: int, make: Callable[[Path], tuple[Table, Assignment]]
) -> list[Mapped]:
    """The rows of each split, as `split` gives them, out of files that stay; they are made if they are not there.

    Of several processes, one makes them, and the others wait. What was made of earlier content is removed; who still
    reads it is not disturbed.

    Arguments:
        folder: For one table: it gets a folder CONTENT-SETTINGS with a file a split, row after row.
        content: Names what the table holds.
        settings: Names all else that the rows and their splits depend on.
        width: Columns.
        make: Gives the table and its splits; its argument is a folder for temporary files.

    Raises:
        RunError: the folder can't be written.
    """
    place, part = folder / f"{content}-{settings}", folder / f"{content}-part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / "lock"):
            if not place.is_dir():
                print(f"cifrun: what is read now is kept in {place}", file=sys.stderr)
                _remove_others(folder, content)
                part.mkdir()
                try:
                    table, codes = make(part)
                    with ExitStack() as stack:
                        names = [f"{name}.{table.values.dtype}" for name in SPLITS]
                        files = [stack.enter_context(open(part / name, "wb")) for name in names]
                        _distribute(table, codes, files)
                        for file in files:
                            file.flush()
                            os.fsync(file.fileno())
                    part.rename(place)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
            dtype = np.dtype(np.float64 if (place / f"{SPLITS[0]}.float64").exists() else np.float32)
            return [_read_only(place / f"{name}.{dtype}", width, dtype) for name in SPLITS]
    except OSError as error:
        what = f"{folder} can't be written: {error.strerror or error}"
        raise RunError(f"{what}; CIFRUN_DATA names another place, and dataset.keep=false needs none") from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Inside, no other process is inside with the same lock; says on stderr if it has to wait."""
    lock = FileLock(path)
    try:
        held = lock.acquire(timeout=1)
    except Timeout:
        print("cifrun: another process reads this table; waiting for it", file=sys.stderr)
        held = lock.acquire()
    with held:
        yield


def _remove_others(folder: Path, content: str) -> None:
    """Remove what was made of other content, and what a process that was killed left."""
    for old in folder.iterdir():
        if old.is_dir() and (not old.name.startswith(f"{content}-") or old.name.endswith("-part")):
            shutil.rmtree(old)


def _distribute(table: Table, codes: Assignment, files: Sequence[IO[bytes]]) -> list[int]:
    """Write each row to the file of its split; return how many there are of each."""
    counts = [0] * len(files)
    size = at_once(table.values.shape[1])
    for start in range(0, len(table.values), size):
        rows = table.values[start : start + size]
        piece = codes(start, start + len(rows))
        for code, file in enumerate(files):
            file.write(rows[piece == code].tobytes())
            counts[code] += int((piece == code).sum())
    return counts


def _read_only(path: Path, width: int, dtype: np.dtype[Any]) -> Mapped:
    with open(path, "rb") as file:
        return Mapped(file, (path.stat().st_size // (dtype.itemsize * width), width), dtype)
