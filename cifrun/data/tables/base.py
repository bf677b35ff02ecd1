"""Tables: a row a point. What all of them share, and a table of your own, whatever its size.

A file is read once, front to back, in pieces (of Parquet, one row group after the other), into a file of float32 for
each split, which is mapped into memory; if single precision can't tell its numbers apart, once more, for files of
float64. So memory holds a piece, and whatever of the mapped files the system has room for and can take back;
nothing else grows with the rows. These files, and not the original, are what training reads: any row of them can be
had alone, while Parquet gives up nothing less than a row group, and text has no places at all. `loader.Loader` says in
which order they are read.

The splits of a file of `LARGE_FILE` bytes or more are kept: other runs and other processes map the same files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import AfterValidator, BeforeValidator
from pydantic.dataclasses import dataclass
from torch import Tensor

from ...config.fields import NAMED, STRICT, Role, registered, setting
from ...errors import ConfigError
from ...io.files import cache, fingerprint
from ...registry import DATASETS
from ..base import Data, DatasetConfig
from .formats import open_source
from .reading import Missing, Precision, Table, pick, read
from .source import Form, Source, listed, warn
from .splits import Assignment, kept, split

__all__ = ["AbsolutePath", "File", "SplitTable", "TableConfig"]

#: Size of a file, in bytes, from which `dataset.keep=auto` keeps what is made of it.
LARGE_FILE = 2**30

#: A path that means the same from every directory, as a run may be looked at from another one.
AbsolutePath = Annotated[Path, NAMED, AfterValidator(lambda path: Path(os.path.abspath(os.path.expanduser(path))))]

#: What a split column may hold.
WORDS = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2}


@dataclass(config=STRICT)
class TableConfig(DatasetConfig):
    """A table, and how many of its points to use."""

    num_train: int | None = setting(None, "at most so many training points; null for all", ge=1, role=Role.TRAINED)
    num_valid: int | None = setting(None, "at most so many validation points", ge=1, role=Role.TRAINED)
    num_test: int | None = setting(None, "at most so many test points", ge=1, role=Role.TRAINED)

    @property
    def _most(self) -> tuple[int | None, int | None, int | None]:
        return self.num_train, self.num_valid, self.num_test


@dataclass(config=STRICT)
class SplitTable(TableConfig):
    """A table that is split by chance."""

    valid_fraction: float = setting(0.1, "share of the rows that are validation points", gt=0, lt=1, role=Role.TRAINED)
    test_fraction: float = setting(0.1, "share of the rows that are test points", gt=0, lt=1, role=Role.TRAINED)
    seed: int = setting(
        0,
        "of the split; not the run's seed, so that runs of several seeds are tested on the same rows",
        role=Role.REPETITION,
        ge=0,
        lt=2**32,
    )

    def check_fractions(self) -> None:
        """Nothing, if something is left to train on.

        Raises:
            ConfigError: Nothing is.
        """
        if (share := self.valid_fraction + self.test_fraction) >= 1:
            raise ConfigError(
                f"dataset.valid_fraction + dataset.test_fraction = {share:g} leaves nothing to train on: "
                f"it should be less than 1"
            )

    def assign(self, count: int, given: np.ndarray | None = None) -> Assignment:
        """The split of each of `count` rows, with these settings; `given` are those that the table says."""
        return Assignment(count, (self.valid_fraction, self.test_fraction), self.seed, self._most, given)


Name = Annotated[str, BeforeValidator(lambda name: str(name) if type(name) is int else name)]


@registered(DATASETS, "file")
class File(SplitTable):
    """Your own table, csv, tsv, parquet, npy or npz: dataset.path=FILE."""

    path: AbsolutePath | None = setting(
        None,
        "your own file, of dataset=file: csv, tsv (or .csv.gz, .zst, .bz2), parquet, npy or npz; its ending says which",
        role=Role.TRAINED,
        may_change=("train", "eval"),
    )
    columns: list[Name] | Literal["all"] = setting(
        "all", "all, or those to use by name, [height,weight]; for an array by number from 1, [1,3]"
    )
    split_column: str | None = setting(
        None, "a column that says train, valid or test for each row; null to split by chance"
    )
    delimiter: str | None = setting(
        None,
        "what separates columns, a blank for runs of blanks; null to find it out, of a comma (.tsv: a tab) and ; tab | "
        "blanks",
        min_length=1,
        max_length=2,
        role=Role.TRAINED,
        may_change=("eval",),
    )
    header: bool | Literal["auto"] = setting(
        "auto",
        "true, false, or auto: the first line names the columns, and numbers alone are refused",
        role=Role.TRAINED,
        may_change=("eval",),
    )
    decimal: Literal["auto", ".", ","] = setting(
        "auto",
        "the decimal sign, . or ,; auto: a comma if the first lines have it in numbers, and no point",
        role=Role.TRAINED,
        may_change=("eval",),
    )
    missing: Literal["refuse", "skip"] = setting(
        "refuse",
        "rows with an empty cell, or NaN: refuse the file, or skip them; they have no score",
        role=Role.TRAINED,
        may_change=("eval",),
    )
    keep: bool | Literal["auto"] = setting(
        "auto",
        "keep its numbers, split, for later runs, in $CIFRUN_DATA, else ~/.cache/cifrun: true, false, or auto (from "
        "1 GiB)",
        role=Role.TRAINED,
    )

    def load(self) -> Data:
        if self.path is None:
            raise ConfigError("dataset.path is missing: dataset=file needs the file to read, dataset.path=FILE")
        self.check_fractions()
        source = self._open(self.path)
        columns = self._columns(source)

        def make(folder: Path | None = None) -> tuple[Table, Assignment]:
            # What rounds such numbers when their mean is gone is the step that standardises them.
            precision: Precision = "auto" if self.standardize else "single"
            table = read(source, columns, self.split_column, WORDS, folder, precision, self.missing)
            if table.skipped:
                rows = f"{table.skipped:,} of {table.skipped + len(table.values):,} rows"
                warn(f"{rows} of {self.path} have an empty cell and are left out (dataset.missing=skip)")
            return table, self.assign(len(table.values), table.labels)

        content, size, changed = fingerprint(self.path), self.path.stat().st_size, self.path.stat().st_mtime_ns
        if self.keep is True or (self.keep == "auto" and size >= LARGE_FILE):
            folder = cache() / "tables" / f"{self.path.stem}-{_digest(str(self.path))}"
            used = (
                columns,
                self.split_column,
                self.valid_fraction,
                self.test_fraction,
                self.seed,
                self._most,
                self.standardize is not False,
            )
            form = self._form
            more = form[2:] if form[2:] != Form()[2:] else ()  # settings that came later: names of folders stay
            settings = _digest(repr((*used, *form[:2], *more)))
            # The time too: of a large file, the fingerprint does not see every byte.
            train, valid, test = kept(folder, _digest(f"{content} {changed}"), settings, len(columns), make)
        else:
            train, valid, test = split(*make(), str(self.path))
        return Data(train.rows, valid.rows, test.rows, columns=tuple(columns), fingerprint=content, mapped=train)

    def read(self, path: Path, columns: Sequence[str]) -> tuple[Tensor, list[str]]:
        """Another file of the same form: these columns of it, (rows, columns), float64, and the names of those left
        aside. With `missing="skip"`, a row with an empty cell holds NaN.

        A file without names, and without those that such a file would have, is taken in its order if it has as many
        columns.
        """
        source = self._open(path)
        in_order = source.numbered and len(source.names) == len(columns) and not set(columns) <= set(source.names)
        columns = pick(source, source.names if in_order else columns)
        used = set(columns)
        others = [name for name in source.names if name not in used]
        missing: Missing = "keep" if self.missing == "skip" else "refuse"
        return torch.from_numpy(read(source, columns, precision="double", missing=missing).values), others

    def _open(self, path: Path) -> Source:
        return open_source(path, self._form)

    @property
    def _form(self) -> Form:
        delimiter = "\t" if self.delimiter == "\\t" else self.delimiter
        return Form(delimiter, self.header, self.decimal, self.missing)

    def _columns(self, source: Source) -> list[str]:
        """The columns of the file that are modelled.

        Raises:
            ConfigError: They are none, or not there.
        """
        if self.split_column is not None and self.split_column not in source.places:
            raise ConfigError(f"{self.path} has no column '{self.split_column}', which dataset.split_column names")
        columns = self.columns
        if columns == "all":
            columns = [name for name in source.names if name != self.split_column and name not in source.hidden]
            for why, names in source.aside.items():
                warn(f"left aside in {self.path}: {listed(names)}, {why}; dataset.columns takes what it names")
            if not columns:
                raise ConfigError(f"{self.path} has no columns of data: it has {listed(source.names)}")
        if not columns:
            raise ConfigError(f"dataset.columns = [] is not allowed: name at least one column of {self.path}")
        if self.split_column in columns:
            raise ConfigError(f"column '{self.split_column}' of {self.path} says the split, and so is none to model")
        return pick(source, columns)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
