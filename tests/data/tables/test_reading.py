"""A table written and read back has the same numbers; one that is not finite is refused with its place."""

from __future__ import annotations

import errno
import tempfile
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
from cifrun.data.tables.formats import open_source
from cifrun.data.tables.layout import is_number
from cifrun.data.tables.reading import read
from cifrun.errors import ConfigError, RunError
from cifrun.io.table_files import TABLES, write_table
from tests.data.tables.helpers import GOOD, refusal, table

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n;|\t/"), min_size=1, max_size=8)
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


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


# --- mistakes, one by one ---------------------------------------------------------------------------------------------

BAD: list[tuple[str, list[str]]] = [
    (f"a,b\n{GOOD}nan,1\n", ["row 6", "column 'a'", "holds nan", "not finite"]),
    (f"a,b\n{GOOD}6,-inf\n", ["row 6", "column 'b'", "holds -inf", "not finite"]),
    (f"a,b\n{GOOD}6,1e39\n", ["row 6", "column 'b'", "1e+39", "single precision", "unit"]),
    (f"a,b\n{GOOD}6,1e999\n", ["row 6", "column 'b'", "not finite"]),
    (f",b\n{GOOD}", ["column 1", "no name", "row numbers", "'dataset.columns=[b]'"]),
    ("a,b\n", ["no rows"]),
]


@pytest.mark.parametrize(("content", "words"), BAD, ids=[f"{k}" for k in range(len(BAD))])
def test_one_sentence_says_which_number_can_not_be_kept(content: str, words: list[str], tmp_path: Path) -> None:
    text = refusal(tmp_path / "a.csv", content)
    assert all(word in text for word in words), text


def test_rows_are_counted_across_arrays_too(tmp_path: Path) -> None:
    np.save(tmp_path / "nan.npy", np.array([[1.0, 2], [3, np.nan]]))
    assert "row 2, column 'x2' holds nan" in refusal(tmp_path / "nan.npy")
    np.save(tmp_path / "none.npy", np.zeros((0, 2)))
    assert "no rows" in refusal(tmp_path / "none.npy")


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("height,weight\n1,2\n")
    with pytest.raises(ConfigError, match=r"no column 'heigth': it has height, weight; did you mean 'height'\?"):
        table(tmp_path / "a.csv", ["heigth"])
    with pytest.raises(ConfigError, match="asked for twice"):
        table(tmp_path / "a.csv", ["height", "height"])


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.csv").write_text(f"a,b\n{GOOD}")
    monkeypatch.setattr(reading, "mapped", full)
    with pytest.raises(RunError, match=r"a\.csv can't be copied .*No space left on device; TMPDIR"):
        table(tmp_path / "a.csv")
