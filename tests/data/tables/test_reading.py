"""A table written and read back has the same numbers; what can't be read is refused in one sentence, with its place."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cifrun.data.tables import reading
from cifrun.data.tables.formats import is_number, open_source
from cifrun.data.tables.reading import read
from cifrun.errors import ConfigError, RunError
from cifrun.io.table_files import TABLES, write_table

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n;|\t/"), min_size=1, max_size=8)
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def table(path: Path, columns: list[str] | None = None, **options: Any) -> reading.Table:
    source = open_source(path, **options)
    return read(source, source.names if columns is None else columns)


@given(st.data(), st.sampled_from(sorted(TABLES)))
@settings(max_examples=80, deadline=None)
def test_what_is_written_is_read_back_bit_for_bit(data: st.DataObject, ending: str) -> None:
    def named(text: str) -> bool:
        return bool(text.strip()) and not is_number(text) and not text.startswith("\ufeff") and '"' not in text

    names = data.draw(st.lists(NAMES.filter(named), min_size=2, max_size=4, unique=True))
    shape = (data.draw(st.integers(1, 20)), len(names))
    values = data.draw(arrays.arrays(np.float32, shape, elements=NUMBERS))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table{ending}"
        write_table(path, dict(zip(names, values.T, strict=True)))
        again = table(path, header=True) if ending in (".csv", ".tsv") else table(path)
        assert list(again.columns) == names
        assert np.array_equal(again.values, values)
        chosen = data.draw(st.permutations(names))[:2]
        assert np.array_equal(table(path, chosen).values, values[:, [names.index(name) for name in chosen]])


def test_rows_and_labels_across_batches(tmp_path: Path) -> None:
    """Order and codes are kept where a file comes in many pieces."""
    count = 200_000
    parts = np.array(["train", "valid", "test"])[np.arange(count) % 3]
    frame = pa.table({"a": np.arange(count), "part": parts})
    parquet.write_table(frame, tmp_path / "a.parquet", row_group_size=70_001)
    rows = "".join(f"{k},{part}\n" for k, part in enumerate(parts))
    (tmp_path / "a.csv").write_text("a,part\n" + rows)
    np.savez(tmp_path / "a.npz", a=np.arange(count), part=parts)
    for name in ("a.parquet", "a.csv", "a.npz"):
        found = read(open_source(tmp_path / name), ["a"], "part", {"train": 0, "valid": 1, "test": 2})
        assert np.array_equal(found.values[:, 0], np.arange(count))
        assert found.labels is not None and np.array_equal(found.labels, np.arange(count) % 3)


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


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", "<f2", "<i8", "u1", "g"])
def test_numbers_of_any_kind_come_by_way_of_double_precision(kind: str, order: Any, tmp_path: Path) -> None:
    """2⁶⁰ + 2³⁶ + 1 is above the middle of two singles, but as a double it is not."""
    x = np.asarray(50 + 9 * np.random.default_rng(0).normal(size=(50, 3)), kind, order)
    if kind == "<i8":
        x[0, 0] = 2**60 + 2**36 + 1
    np.save(tmp_path / "x.npy", x)
    found = table(tmp_path / "x.npy").values
    assert np.array_equal(found, x.astype(np.float64).astype(np.float32))
    assert kind != "<i8" or found[0, 0] == 2**60


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

GOOD = "".join(f"{k},{k * k}\n" for k in range(1, 6))
LONG = "".join(f"{k},{k * k}\n" for k in range(300_000))

BAD: list[tuple[str, bytes | str, dict[str, Any], list[str]]] = [
    ("a.csv", f"a,b\n{GOOD}6,x\n", {}, ["row 6", "column 'b'", "'x'", "no number", "dataset.columns", "of a, b"]),
    ("a.csv", f"a,b\n{LONG}6,x\n", {}, ["row 300001", "column 'b'", "'x'"]),
    ("a.csv", "species,a,b\nsetosa,1,2\n", {}, ["row 1", "column 'species'", "'setosa'"]),
    ("a.csv", f"a,b\n{GOOD}6,\n", {}, ["row 6", "column 'b'", "is empty"]),
    ("a.csv", f"a,b\n{LONG}NA,1\n", {}, ["row 300001", "column 'a'", "is empty"]),
    ("a.csv", f"a,b\n{GOOD}nan,1\n", {}, ["row 6", "column 'a'", "holds nan", "not finite"]),
    ("a.csv", f"a,b\n{GOOD}6,-inf\n", {}, ["row 6", "column 'b'", "holds -inf", "not finite"]),
    ("a.csv", f"a,b\n{GOOD}6,1e39\n", {}, ["row 6", "column 'b'", "1e+39", "single precision", "unit"]),
    ("a.csv", f"a,b\n{GOOD}6,1e999\n", {}, ["row 6", "column 'b'", "not finite"]),
    ("a.csv", f"a,b\n{GOOD}6\n", {}, ["row 6", "1 field,", "2"]),
    ("a.csv", f"a,b\n{LONG}6,7,8\n", {}, ["row 300001", "3 fields", "2"]),
    ("a.csv", f"a,a\n{GOOD}", {}, ["two columns 'a'"]),
    ("a.csv", f",b\n{GOOD}", {}, ["column 1", "no name", "row numbers", "of b"]),
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
    ("a.csv", "a,b\n", {}, ["no rows"]),
    ("a.csv", "a,b\n1,2\n".encode("utf-16"), {}, ["not UTF-8"]),
    ("a.csv", "größe,b\n1,2\n".encode("latin-1"), {}, ["not UTF-8"]),
    ("a.csv", b"\x00\x01\x02\x03", {}, ["a.csv"]),
    ("a.parquet", "no parquet", {}, ["can't be read as parquet"]),
    ("a.npy", "no array", {}, ["can't be read as an array", "another format"]),
    ("a.npz", "no array", {}, ["can't be read as an array", "another format"]),
    ("a.npz", b"PK\x03\x04 and no more", {}, ["can't be read as an array", "damaged"]),
    ("a.xlsx", "x", {}, ["ending", ".csv", ".parquet", ".npy"]),
]


def sentence(path: Path, **options: Any) -> str:
    with pytest.raises(ConfigError) as error:
        table(path, **options)
    assert str(path) in str(error.value) or "delimiter" in options
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.mark.parametrize(("name", "content", "options", "words"), BAD, ids=[f"{k}" for k in range(len(BAD))])
def test_one_sentence_says_what_and_where(
    name: str, content: bytes | str, options: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    text = sentence(tmp_path / name, **options)
    assert all(word in text for word in words), text


def test_a_bad_column_that_is_not_asked_for_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("a,b,name\n1,,Zoë\n2,x,\n".encode("latin-1"))
    assert table(tmp_path / "a.csv", ["a"]).values.tolist() == [[1], [2]]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a\n1\n")
    assert "did you mean 'data.csv'?" in sentence(tmp_path / "dat.csv")
    assert "there is no file" in sentence(tmp_path / "nowhere" / "x.csv")
    assert "there is no file" in sentence(tmp_path)


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("height,weight\n1,2\n")
    with pytest.raises(ConfigError, match=r"no column 'heigth': it has height, weight; did you mean 'height'\?"):
        table(tmp_path / "a.csv", ["heigth"])
    with pytest.raises(ConfigError, match="asked for twice"):
        table(tmp_path / "a.csv", ["height", "height"])


def test_arrays_that_are_no_tables(tmp_path: Path) -> None:
    cases: dict[str, tuple[Callable[[Path], None], str]] = {
        "deep.npy": (lambda path: np.save(path, np.zeros((2, 2, 2))), r"shape \(2, 2, 2\)"),
        "text.npy": (lambda path: np.save(path, np.array([["a", "b"]])), "column 'x1' holds <U1 and no numbers"),
        "objects.npy": (lambda path: np.save(path, np.array([{}, {}])), "Python objects"),
        "uneven.npz": (lambda path: np.savez(path, a=np.zeros(3), b=np.zeros(4)), "different lengths: a 3, b 4"),
        "nan.npy": (lambda path: np.save(path, np.array([[1.0, 2], [3, np.nan]])), "row 2, column 'x2' holds nan"),
        "none.npy": (lambda path: np.save(path, np.zeros((0, 2))), "no rows"),
    }
    for name, (write, words) in cases.items():
        write(tmp_path / name)
        with pytest.raises(ConfigError, match=words):
            table(tmp_path / name)


def test_missing_numbers_of_a_parquet_file(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": [1.0, 2.0], "b": [1, None]}), tmp_path / "a.parquet")
    assert "row 2, column 'b' is empty" in sentence(tmp_path / "a.parquet")


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.csv").write_text(f"a,b\n{GOOD}")
    monkeypatch.setattr(reading, "mapped", full)
    with pytest.raises(RunError, match=r"a\.csv can't be copied .*No space left on device; TMPDIR"):
        table(tmp_path / "a.csv")
