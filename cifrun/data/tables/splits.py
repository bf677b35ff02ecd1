"""The rows of a table, each to its split, a piece at a time: the table may be larger than memory.

Assignment   the split of each row, as a function of its number
split        the rows of each split, in files without a name that go when nobody maps them any more
kept         the same in files that stay, for the next run and for other processes
chosen       which rows they are, to be read where they are
"""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ...errors import RunError
from ..order.permutation import LARGE, Drawn, Keyed
from .formats import ROWS, at_once
from .in_place import Chosen
from .reading import Table, mapped, scratch

__all__ = ["LEFT_OUT", "Assignment", "chosen", "kept", "split"]

#: The code of a row that is in no split.
LEFT_OUT = 3
#: The files of a table that is kept.
SPLITS = ("train.float32", "valid.float32", "test.float32")


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
        if given is None or any(limit is not None for limit in most):
            self._order = Keyed(count, seed) if count > LARGE else Drawn(count, seed, inverted=True)
        for code, limit in enumerate(most):
            if limit is not None:
                ends[code] = min(ends[code], begins[code] + limit if given is None else self._end(code, limit))
        self._ranges = list(zip(begins, ends, strict=True))

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """The splits of the rows start … stop − 1, from 0, (stop − start,), uint8."""
        given = None if self._given is None else np.asarray(self._given[start:stop])
        if given is not None and not hasattr(self, "_order"):
            return given
        places = self._order(torch.arange(start, stop)).numpy()
        codes = np.full(stop - start, LEFT_OUT, dtype=np.uint8)
        for code, (begin, end) in enumerate(self._ranges):
            inside = (places >= begin) & (places < end)
            codes[inside if given is None else inside & (given == code)] = code
        return codes

    def size(self, code: int) -> int:
        """How many rows of all are in a split; where the splits are given, at most."""
        begin, end = self._ranges[code]
        return max(0, end - begin)

    def _end(self, code: int, limit: int) -> int:
        """The place before which `limit` rows of a given split are, or all if there are no more."""
        assert self._given is not None
        bound, found = self.count, np.empty(0, dtype=np.int64)
        parts, size = [found], 0
        for start in range(0, self.count, ROWS):
            rows = start + np.flatnonzero(self._given[start : start + ROWS] == code)
            places = self._order(torch.from_numpy(rows)).numpy()
            parts.append(places[places < bound])
            size += len(parts[-1])
            if start + ROWS >= self.count or size > 2 * limit + ROWS:
                found = np.concatenate(parts)
                if len(found) > limit:
                    found = np.partition(found, limit)[: limit + 1]
                    bound = int(found[limit])
                parts, size = [found], len(found)
        return bound


def split(table: Table, codes: Assignment, origin: str) -> list[Tensor]:
    """The rows of each split in the order of the table, as float32 tensors that stay on disk."""
    width = table.values.shape[1]
    with ExitStack() as stack:
        files = [stack.enter_context(scratch(origin)) for _ in SPLITS]
        counts = _distribute(table, codes, files)
        return [
            torch.from_numpy(mapped(file, (count, width)) if count else np.empty((0, width), np.float32))
            for file, count in zip(files, counts, strict=True)
        ]


def kept(
    folder: Path, content: str, settings: str, width: int, make: Callable[[Path], tuple[Table, Assignment]]
) -> list[Tensor]:
    """The rows of each split, as `split` gives them, out of files that stay; they are made if they are not there.

    Of several processes, one makes them, and the others wait. What was made of earlier content is removed; who still
    reads it is not disturbed.

    Arguments:
        folder: For one table: it gets a folder CONTENT-SETTINGS with a file a split, float32, row after row.
        content: Names what the table holds.
        settings: Names all else that the rows and their splits depend on.
        width: Columns.
        make: Gives the table and its splits; its argument is a folder for temporary files.

    Errors:
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
                        files = [stack.enter_context(open(part / name, "wb")) for name in SPLITS]
                        _distribute(table, codes, files)
                        for file in files:
                            file.flush()
                            os.fsync(file.fileno())
                    part.rename(place)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
            return [_read_only(place / name, width) for name in SPLITS]
    except OSError as error:
        what = f"{folder} can't be written: {error.strerror or error}"
        raise RunError(f"{what}; CIFRUN_DATA names another place, and dataset.keep=false needs none") from error


def chosen(codes: Assignment) -> list[Chosen]:
    """The rows of each split."""
    found = [Chosen(codes.count) for _ in SPLITS]
    for start in range(0, codes.count, ROWS):
        piece = codes(start, min(start + ROWS, codes.count))
        for code, rows in enumerate(found):
            rows.add(piece == code)
    return found


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Inside, no other process is inside with the same lock; says on stderr if it has to wait."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print("cifrun: another process reads this table; waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


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


def _read_only(path: Path, width: int) -> Tensor:
    count = path.stat().st_size // (4 * width)
    if count == 0:
        return torch.empty(0, width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it has no tensors that can't be written to
        return torch.from_numpy(np.memmap(path, np.float32, "r", shape=(count, width)))
