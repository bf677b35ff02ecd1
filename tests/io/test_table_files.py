"""Tables as other programs read them: Python's csv module, NumPy and Arrow."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyarrow import parquet

from cifrun.errors import ConfigError, RunError
from cifrun.io import table_files
from cifrun.io.table_files import TABLES, check_ending, numbered, write_table

NAMES = ["file", "a, b", 'the "best"', "x\ty", "ü"]
COUNTS = np.array([0, -7, 2**53 + 1, 2**63 - 1])
#: The first one needs all nine digits.
VALUES = np.array([1000.00006, -3.4e38, 1e-45, 0.1], np.float32)


def by_name(path: Path) -> dict[str, list[str]]:
    """The columns of a text, as the csv module reads it."""
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    assert all(len(row) == len(header) for row in rows)
    return {name: [row[k] for row in rows] for k, name in enumerate(header)}


@pytest.mark.parametrize("ending", [*TABLES, ".CSV"])
def test_other_programs_read_the_same_names_and_numbers(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"table{ending}"
    columns = {name: COUNTS if k % 2 else VALUES for k, name in enumerate(NAMES)}
    write_table(path, columns)
    if ending == ".parquet":
        found = {name: column.to_numpy() for name, column in zip(NAMES, parquet.read_table(path), strict=True)}
    elif ending == ".npz":
        found = dict(np.load(path))
    else:
        texts = by_name(path)
        found = {name: np.array(texts[name], columns[name].dtype) for name in NAMES}
    assert list(found) == NAMES
    for name, column in columns.items():
        assert found[name].dtype == column.dtype and np.array_equal(found[name], column)
    assert list(tmp_path.iterdir()) == [path]


@given(arrays(np.float32, st.integers(0, 30), elements=st.floats(width=32)), st.integers(1, 8))
@settings(deadline=None)
def test_text_loses_nothing_of_single_precision_however_many_rows_are_written_at_once(x: np.ndarray, rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder, patch.object(table_files, "ROWS", rows):
        path = Path(folder) / "table.csv"
        write_table(path, {"row": np.arange(len(x)), "x": x})
        found = by_name(path)
    assert found["row"] == [str(k) for k in range(len(x))]
    assert np.array_equal(np.array(found["x"], float).astype(np.float32), x, equal_nan=True)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet"])
def test_columns_that_do_not_fit_together_leave_the_old_file(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"table{ending}"
    path.write_text("old")
    with pytest.raises(ValueError):
        write_table(path, {"a": np.zeros(3), "b": np.zeros(2)})
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_place_that_cant_be_written_is_one_sentence(tmp_path: Path) -> None:
    for ending in TABLES:
        with pytest.raises(RunError, match=rf"nowhere/x{ending} can't be written: .*No such file or directory$"):
            write_table(tmp_path / f"nowhere/x{ending}", {"a": np.zeros(3)})


def test_an_ending_says_the_format_and_another_is_refused(tmp_path: Path) -> None:
    assert check_ending("output", Path("a.b/x.y.NpZ"), TABLES) == ".npz"
    for name in ("x", "x.csv.gz", ".csv", "x.csv/y"):
        with pytest.raises(ConfigError) as error:
            check_ending("output", Path(name), {".csv": 1, ".png": 2})
        assert str(error.value) == f"output = '{name}' is not allowed: its ending should be one of .csv, .png"
    with pytest.raises(ConfigError, match=r"\.csv, \.tsv, \.parquet, \.npz$"):
        write_table(tmp_path / "x.npy", {"a": np.zeros(3)})
    assert list(tmp_path.iterdir()) == []


def test_coordinates_without_names_count_from_one() -> None:
    assert numbered(3) == ["x1", "x2", "x3"] and numbered(0) == []
