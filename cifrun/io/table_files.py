"""Named columns of numbers, written as a table: .csv, .tsv, .parquet or .npz."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from ..errors import ConfigError
from .files import replacing
from .optional import need

__all__ = ["TABLES", "check_ending", "numbered", "write_table"]

#: Rows that are made text at once.
ROWS = 2**16


def check_ending(key: str, path: Path, allowed: Mapping[str, object]) -> str:
    """The ending of a file that will be written.

    Raises:
        ConfigError: It is none of those that are allowed.
    """
    ending = path.suffix.lower()
    if ending not in allowed:
        raise ConfigError(f"{key} = '{path}' is not allowed: its ending should be one of {', '.join(allowed)}")
    return ending


def numbered(count: int) -> list[str]:
    """What coordinates are called that have no names: x1, x2, …"""
    return [f"x{k + 1}" for k in range(count)]


def write_table(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write columns of one length, whole or not at all; as text in as many digits as lose nothing.

    Raises:
        ConfigError: an ending that is none of `TABLES`.
        RunError: the file can't be written.
    """
    write = TABLES[check_ending("the output", path, TABLES)]
    with replacing(path) as file:
        write(file, columns)


def _write_text(path: Path, columns: Mapping[str, np.ndarray], delimiter: str) -> None:
    forms = {"float64": "%r", "float32": "%.9g"}
    line = delimiter.join(forms.get(str(column.dtype), "%d") for column in columns.values())
    count = len(next(iter(columns.values())))
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerow(columns)
        for start in range(0, count, ROWS):
            parts = [column[start : start + ROWS].tolist() for column in columns.values()]
            stream.writelines(line % row + "\n" for row in zip(*parts, strict=True))


def _write_parquet(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    arrow, parquet = need("pyarrow", "writing parquet"), need("pyarrow.parquet", "writing parquet")
    with open(path, "wb") as stream:  # opened here, as the errors of Arrow's own have other words
        parquet.write_table(arrow.table(dict(columns)), stream)


def _write_npz(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    with zipfile.ZipFile(path, "w") as archive:  # numpy's own function has no room for a column called "file"
        for name, column in columns.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                npy.write_array(stream, np.ascontiguousarray(column), allow_pickle=False)


TABLES: dict[str, Callable[[Path, Mapping[str, np.ndarray]], None]] = {
    ".csv": partial(_write_text, delimiter=","),
    ".tsv": partial(_write_text, delimiter="\t"),
    ".parquet": _write_parquet,
    ".npz": _write_npz,
}
