"""Parquet: its types, the index that pandas writes along, and columns that are missing or there twice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from cifrun.data.tables.columnar import Parquet
from cifrun.data.tables.formats import open_source
from cifrun.data.tables.reading import read
from cifrun.errors import ConfigError
from tests.data.tables.helpers import load, refusal, table


def test_types_of_a_parquet_file(tmp_path: Path) -> None:
    from decimal import Decimal

    numbers = {"i": pa.array([1, 2**60], pa.int64()), "d": pa.array([Decimal("1.25"), Decimal("-3")]), "h": [0.5, 1.5]}
    parquet.write_table(pa.table({**numbers, "s": ["a", "b"], "b": [True, False]}), tmp_path / "t.parquet")
    found = table(tmp_path / "t.parquet", ["i", "d", "h", "b"])
    assert found.values.tolist() == [[1, 1.25, 0.5, 1], [2.0**60, -3, 1.5, 0]]
    with pytest.raises(ConfigError, match=r"column 's' holds string and no numbers: .*'dataset.columns=\[i,d,h,b\]'"):
        table(tmp_path / "t.parquet", ["i", "s"])


def test_missing_numbers_of_a_parquet_file(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": [1.0, 2.0], "b": [1, None]}), tmp_path / "a.parquet")
    assert "row 2, column 'b' is empty" in refusal(tmp_path / "a.parquet")


def test_columns_come_in_the_order_in_which_they_are_asked_for(tmp_path: Path) -> None:
    parquet.write_table(pa.table({name: [k, k + 10] for k, name in enumerate("abcd")}), tmp_path / "a.parquet")
    assert table(tmp_path / "a.parquet", ["d", "a", "c"]).values.tolist() == [[3, 0, 2], [13, 10, 12]]


@pytest.mark.parametrize("named", [True, False])
def test_the_index_of_a_data_frame_is_no_column_unless_it_is_asked_for(
    named: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(0).normal(size=(100, 2))
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(x, columns=["a", "b"], index=pd.Index(x[:, 0] * 3, name="id" if named else None))
    frame.to_parquet(tmp_path / "a.parquet")
    name = "id" if named else "__index_level_0__"
    assert open_source(tmp_path / "a.parquet").names == ["a", "b", name]
    assert load(tmp_path / "a.parquet").columns == ("a", "b")
    assert f"left aside in {tmp_path}/a.parquet: {name}, the index that pandas wrote along" in capsys.readouterr().err
    assert load(tmp_path / "a.parquet", columns=[name, "b"]).columns == (name, "b")
    assert capsys.readouterr().err == ""


def test_a_note_of_another_program_is_no_index(tmp_path: Path) -> None:
    for note in (b"no json", b"[1]", b'{"index_columns": 3}', b'{"index_columns": [{"kind": "range"}, "c"]}'):
        made = pa.table({"a": [1.0], "b": [2.0]}).replace_schema_metadata({b"pandas": note})
        parquet.write_table(made, tmp_path / "a.parquet")
        assert open_source(tmp_path / "a.parquet").hidden == set()


def test_of_a_file_with_nothing_but_an_index_one_sentence(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    pd.DataFrame(index=pd.Index([3.0, 1.0, 2.0], name="t")).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="has no columns of data: it has t"):
        load(tmp_path / "a.parquet")


def test_columns_that_are_not_asked_for_may_be_there_twice(tmp_path: Path) -> None:
    made = pa.Table.from_arrays([pa.array([1.0, 2]), pa.array([3.0, 4]), pa.array(["x", "y"])], ["a", "b", "a"])
    parquet.write_table(made, tmp_path / "a.parquet")
    assert table(tmp_path / "a.parquet", ["b"]).values.tolist() == [[3], [4]]
    assert "two columns 'a': rename one, or name the columns to use, 'dataset.columns=[b]'" in refusal(
        tmp_path / "a.parquet"
    )


def test_the_work_of_a_wide_file_grows_with_its_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its schema is made by Arrow each time that it is asked for."""
    width = 3000
    parquet.write_table(pa.table({f"x{k}": [1.0, 2.0] for k in range(width)}), tmp_path / "a.parquet")
    asked: list[int] = []
    opened = Parquet._file

    class Counted:
        def __init__(self, file: Any) -> None:
            self._made = file

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: Any) -> None:
            self._made.close()

        def __getattr__(self, name: str) -> Any:
            asked.append(1)
            return getattr(self._made, name)

    monkeypatch.setattr(Parquet, "_file", lambda self: Counted(opened(self)))
    source = open_source(tmp_path / "a.parquet")
    assert read(source, source.names).values.shape == (2, width)
    assert len(asked) < 10


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": np.random.default_rng(0).normal(size=5000)}), tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    for damaged in (content[:-10], content[:4] + bytes(30) + content[34:], content[4:]):
        assert "can't be read" in refusal(tmp_path / "a.parquet", damaged)


def test_a_name_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"abcdef": [1.0, 2.0]}), tmp_path / "a.parquet", store_schema=False)
    content = (tmp_path / "a.parquet").read_bytes().replace(b"abcdef", b"ab\xffdef")
    assert "can't be read as parquet" in refusal(tmp_path / "a.parquet", content)


def test_a_page_is_not_believed_what_it_says_of_its_size(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": np.random.default_rng(0).normal(size=50)}), tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    head = re.match(rb"PAR1\x15[\x00-\x7f]\x15[\x80-\xff]*[\x00-\x7f]\x15", content)  # type and unpacked size
    assert head is not None
    size = re.compile(rb"[\x80-\xff]*[\x00-\x7f]").match(content, head.end())
    assert size is not None
    claimed = content[: head.end()] + b"\xd6\xff\xff\xff\x0f" + content[size.end() :]  # 2 GiB, in Thrift's way
    assert "can't be read as parquet" in refusal(tmp_path / "a.parquet", claimed)
    assert pa.default_memory_pool().max_memory() < 2**30
