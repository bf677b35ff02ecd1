"""The formats of a table: what each may hold, and one sentence, with the place, for what can't be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from cifrun.data.tables.formats import is_number
from cifrun.errors import ConfigError
from tests.data.tables.helpers import GOOD, LONG, refusal, table


@pytest.mark.parametrize(("text", "number"), [("1", True), ("-2e5", True), ("nan", True), ("", False), ("x1", False)])
def test_a_header_of_numbers_is_told_by_its_texts(text: str, number: bool) -> None:
    assert is_number(text) is number


def test_arrays_are_chosen_by_number_or_key(tmp_path: Path) -> None:
    x = np.arange(12.0).reshape(4, 3)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "line.npy", x[:, 1])
    np.savez(tmp_path / "x.npz", height=x[:, 0], size=x[:, 1:])
    assert table(tmp_path / "x.npy").columns == ("x1", "x2", "x3")
    assert np.array_equal(table(tmp_path / "x.npy", ["3", "x1"]).values, x[:, [2, 0]])
    assert np.array_equal(table(tmp_path / "line.npy").values, x[:, 1:2])
    assert table(tmp_path / "x.npz").columns == ("height", "size1", "size2")
    assert np.array_equal(table(tmp_path / "x.npz").values, x)
    np.savez(tmp_path / "one.npz", x)
    assert table(tmp_path / "one.npz", ["3"]).columns == ("arr_03",)


def test_types_of_a_parquet_file(tmp_path: Path) -> None:
    from decimal import Decimal

    numbers = {"i": pa.array([1, 2**60], pa.int64()), "d": pa.array([Decimal("1.25"), Decimal("-3")]), "h": [0.5, 1.5]}
    parquet.write_table(pa.table({**numbers, "s": ["a", "b"], "b": [True, False]}), tmp_path / "t.parquet")
    assert table(tmp_path / "t.parquet", ["i", "d", "h"]).values.tolist() == [[1, 1.25, 0.5], [2.0**60, -3, 1.5]]
    for name in ("s", "b"):
        with pytest.raises(
            ConfigError, match=f"column '{name}' holds (string|bool) and no numbers: .* of i, d, h, s, b"
        ):
            table(tmp_path / "t.parquet", ["i", name])


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_text_in_all_its_forms(bom: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f'{bom}"first, or a",ü\r\n"1", 2e0\r\n\r\n3,.5', encoding="utf-8")
    found = table(tmp_path / "a.csv")
    assert found.columns == ("first, or a", "ü")
    assert found.values.tolist() == [[1, 2], [3, 0.5]]
    (tmp_path / "b.csv").write_text("1;2\n3;4\n")
    assert table(tmp_path / "b.csv", delimiter=";", header=False).values.tolist() == [[1, 2], [3, 4]]
    assert table(tmp_path / "b.csv", ["2"], delimiter=";", header=False).values.tolist() == [[2], [4]]
    assert table(tmp_path / "b.csv", delimiter=";", header=True).columns == ("1", "2")


# --- mistakes, one by one ---------------------------------------------------------------------------------------------

BAD: list[tuple[str, bytes | str, dict[str, Any], list[str]]] = [
    ("a.csv", f"a,b\n{GOOD}6,x\n", {}, ["row 6", "column 'b'", "'x'", "no number", "dataset.columns", "of a, b"]),
    ("a.csv", f"a,b\n{LONG}6,x\n", {}, ["row 300001", "column 'b'", "'x'"]),
    ("a.csv", "species,a,b\nsetosa,1,2\n", {}, ["row 1", "column 'species'", "'setosa'"]),
    ("a.csv", f"a,b\n{GOOD}6,\n", {}, ["row 6", "column 'b'", "is empty"]),
    ("a.csv", f"a,b\n{LONG}NA,1\n", {}, ["row 300001", "column 'a'", "is empty"]),
    ("a.csv", f"a,b\n{GOOD}6\n", {}, ["row 6", "1 field,", "2"]),
    ("a.csv", f"a,b\n{LONG}6,7,8\n", {}, ["row 300001", "3 fields", "2"]),
    ("a.csv", f"a,a\n{GOOD}", {}, ["two columns 'a'"]),
    ("a.csv", GOOD, {}, ["first line, 1, 1,", "dataset.header=false", "dataset.header=true"]),
    ("a.csv", f"{GOOD}x,1\n", {"header": False}, ["row 6", "column 'x1'", "'x'"]),
    ("a.csv", "a;b\n1;2\n", {}, ["one column, 'a;b'", "dataset.delimiter=';'"]),
    ("a.csv", "a\tb\n1\t2\n", {}, ["one column", r"dataset.delimiter='\t'"]),
    ("a.csv", "a\n1\n\n3\n", {}, ["row 2", "column 'a'", "is empty"]),
    ("a.csv", "\na\n1\n", {}, ["begins with an empty line"]),
    ("a.csv", "a,b\n1,2\n", {"delimiter": "ab"}, ["dataset.delimiter = 'ab'", "one ASCII character"]),
    ("a.csv", "a·b\n1·2\n", {"delimiter": "·"}, ["dataset.delimiter = '·'", "one ASCII character"]),
    ("a.csv", "", {}, ["is empty"]),
    ("a.csv", "\n\n", {}, ["is empty"]),
    ("a.csv", "a,b\n1,2\n".encode("utf-16"), {}, ["not UTF-8"]),
    ("a.csv", "größe,b\n1,2\n".encode("latin-1"), {}, ["not UTF-8"]),
    ("a.csv", b"\x00\x01\x02\x03", {}, ["a.csv"]),
    ("a.parquet", "no parquet", {}, ["can't be read as parquet"]),
    ("a.npy", "no array", {}, ["can't be read as an array", "another format"]),
    ("a.npz", "no array", {}, ["can't be read as an array", "another format"]),
    ("a.npz", b"PK\x03\x04 and no more", {}, ["can't be read as an array", "damaged"]),
    ("a.xlsx", "x", {}, ["ending", ".csv", ".parquet", ".npy"]),
]


@pytest.mark.parametrize(("name", "content", "options", "words"), BAD, ids=[f"{k}" for k in range(len(BAD))])
def test_one_sentence_says_what_and_where(
    name: str, content: bytes | str, options: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    text = refusal(tmp_path / name, content, **options)
    assert all(word in text for word in words), text


def test_a_bad_column_that_is_not_asked_for_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("a,b,name\n1,,Zoë\n2,x,\n".encode("latin-1"))
    assert table(tmp_path / "a.csv", ["a"]).values.tolist() == [[1], [2]]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a\n1\n")
    assert "did you mean 'data.csv'?" in refusal(tmp_path / "dat.csv")
    assert "there is no file" in refusal(tmp_path / "nowhere" / "x.csv")
    assert "there is no file" in refusal(tmp_path)


def test_arrays_that_are_no_tables(tmp_path: Path) -> None:
    cases: dict[str, tuple[Callable[[Path], None], str]] = {
        "deep.npy": (lambda path: np.save(path, np.zeros((2, 2, 2))), r"shape \(2, 2, 2\)"),
        "text.npy": (lambda path: np.save(path, np.array([["a", "b"]])), "column 'x1' holds <U1 and no numbers"),
        "objects.npy": (lambda path: np.save(path, np.array([{}, {}])), "Python objects"),
        "uneven.npz": (lambda path: np.savez(path, a=np.zeros(3), b=np.zeros(4)), "different lengths: a 3, b 4"),
    }
    for name, (write, words) in cases.items():
        write(tmp_path / name)
        with pytest.raises(ConfigError, match=words):
            table(tmp_path / name)


def test_missing_numbers_of_a_parquet_file(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": [1.0, 2.0], "b": [1, None]}), tmp_path / "a.parquet")
    assert "row 2, column 'b' is empty" in refusal(tmp_path / "a.parquet")
