"""Tables: a row a point. What all of them share, and a table of your own, whatever its size.

A file is read once, front to back, into float32 on disk; what is in memory is a piece of it, a number or two a row, and
whatever of the mapped file the system has room for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import AfterValidator, BeforeValidator
from pydantic.dataclasses import dataclass
from torch import Tensor

from ..config import STRICT, setting
from ..errors import ConfigError
from ..registry import DATASETS
from .base import Data, DatasetConfig
from .formats import ROWS, open_source
from .reading import Table, mapped, read, scratch

__all__ = ["AbsolutePath", "File", "SplitTable", "TableConfig", "assign", "split"]

#: A path that means the same from every directory, as a run may be looked at from another one.
AbsolutePath = Annotated[Path, AfterValidator(lambda path: Path(os.path.abspath(os.path.expanduser(path))))]

#: What a split column may hold.
WORDS = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2}
LEFT_OUT = 3


@dataclass(config=STRICT)
class TableConfig(DatasetConfig):
    """A table, and how many of its points to use."""

    num_train: int | None = setting(None, "at most so many training points; null for all", ge=1)
    num_valid: int | None = setting(None, "at most so many validation points; null for all", ge=1)
    num_test: int | None = setting(None, "at most so many test points; null for all", ge=1)

    @property
    def _most(self) -> tuple[int | None, int | None, int | None]:
        return self.num_train, self.num_valid, self.num_test


@dataclass(config=STRICT)
class SplitTable(TableConfig):
    """A table that is split by chance."""

    valid_fraction: float = setting(0.1, "share of the rows that are validation points", gt=0, lt=1)
    test_fraction: float = setting(0.1, "share of the rows that are test points", gt=0, lt=1)
    seed: int = setting(
        0, "of the split; the same in runs of different seeds, so that their tests are the same", ge=0, lt=2**32
    )

    def check_fractions(self) -> None:
        """Raise `ConfigError` if nothing is left to train on."""
        if (share := self.valid_fraction + self.test_fraction) >= 1:
            raise ConfigError(
                f"dataset.valid_fraction + dataset.test_fraction = {share:g} leaves nothing to train on: "
                f"it should be less than 1"
            )

    def assign(self, count: int, given: np.ndarray | None = None) -> np.ndarray:
        """`assign` with these settings."""
        return assign(count, (self.valid_fraction, self.test_fraction), self.seed, self._most, given)


def assign(
    count: int,
    fractions: tuple[float, float],
    seed: int,
    most: Sequence[int | None] = (None, None, None),
    given: np.ndarray | None = None,
) -> np.ndarray:
    """The split of each row: 0, 1, 2 for training, validation, test; `LEFT_OUT` for those beyond `most`; (count,).

    Arguments:
        fractions: Of validation and test points: of n rows n·fraction, rounded down, and at least one.
        seed: Of the draw, also of which rows are left out.
        most: At most so many training, validation and test points.
        given: The splits, where the table says them; none is drawn then.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).numpy()
    if given is None:
        valid, test = (min(count, max(1, int(fraction * count))) for fraction in fractions)
        given = np.zeros(count, dtype=np.uint8)
        given[order[:test]] = 2
        given[order[test : test + valid]] = 1
    codes = given.copy()
    for code, limit in enumerate(most):
        if limit is not None:
            members = order[given[order] == code]
            codes[members[limit:]] = LEFT_OUT
    return codes


# --- a file of your own -----------------------------------------------------------------------------------------------

Name = Annotated[str, BeforeValidator(lambda name: str(name) if type(name) is int else name)]


@DATASETS.register("file")
@dataclass(config=STRICT)
class File(SplitTable):
    """Your own table, csv, tsv, parquet, npy or npz: dataset.path=FILE."""

    path: AbsolutePath | None = setting(None, "the file; its ending says the format")
    columns: list[Name] | Literal["all"] = setting("all", "columns to use, by name; for an array, by number from 1")
    split_column: str | None = setting(None, "a column that says train, valid or test; null to split by chance")
    delimiter: str | None = setting(
        None, "what separates columns; null for a tab in .tsv, else a comma", min_length=1, max_length=2
    )
    header: bool | Literal["auto"] = setting(
        "auto", "whether the first line names the columns; auto: yes, and a line of numbers alone is refused"
    )

    def load(self) -> Data:
        if self.path is None:
            raise ConfigError("dataset.path is missing: dataset=file needs the file to read, dataset.path=FILE")
        self.check_fractions()
        source = open_source(self.path, self._separator, self.header)
        columns = self.columns
        if self.split_column is not None and self.split_column not in source.names:
            raise ConfigError(f"{self.path} has no column '{self.split_column}', which dataset.split_column names")
        if columns == "all":
            columns = [name for name in source.names if name != self.split_column]
        if not columns:
            raise ConfigError(f"dataset.columns = [] is not allowed: name at least one column of {self.path}")
        if self.split_column in columns:
            raise ConfigError(f"column '{self.split_column}' of {self.path} says the split, and so is none to model")
        table = read(source, columns, self.split_column, WORDS)
        train, valid, test = split(table, self.assign(len(table.values), table.labels), str(self.path))
        return Data(train, valid, test, columns=table.columns)

    def read(self, path: Path, columns: Sequence[str]) -> tuple[Tensor, list[str]]:
        """Another file of the same form: these columns of it, (rows, columns), and the names of those left aside.

        A file without names, and without those that such a file would have, is taken in its order if it has as many
        columns.
        """
        source = open_source(path, self._separator, self.header)
        in_order = source.numbered and len(source.names) == len(columns) and not set(columns) <= set(source.names)
        table = read(source, source.names if in_order else columns)
        return torch.from_numpy(table.values), [name for name in source.names if name not in table.columns]

    @property
    def _separator(self) -> str | None:
        return "\t" if self.delimiter == "\\t" else self.delimiter


def split(table: Table, codes: np.ndarray, origin: str) -> list[Tensor]:
    """The rows of each split in the order of the file, as float32 tensors that stay on disk."""
    width = table.values.shape[1]
    splits = []
    for code in range(3):
        count = int((codes == code).sum())
        with scratch(origin) as file:
            for start in range(0, len(codes), ROWS):
                file.write(table.values[start : start + ROWS][codes[start : start + ROWS] == code].tobytes())
            splits.append(torch.from_numpy(mapped(file, (count, width)) if count else np.empty((0, width), np.float32)))
    return splits
