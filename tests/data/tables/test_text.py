"""Text as people save it: the same numbers come out, or one sentence says what to type."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cifrun.data.tables import text as module
from cifrun.data.tables.formats import open_source
from cifrun.data.tables.reading import read
from cifrun.data.tables.source import Form
from tests.data.tables.helpers import LONG, refusal, table


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


#: What a text holds, its ending, its columns, its first row.
READ: list[tuple[str, str, dict[str, Any], list[str], list[float]]] = [
    ("a;b\n1,5;-2,5e1\n3;4\n", "csv", {}, ["a", "b"], [1.5, -25]),
    ("a;b\n1.5;2.5\n", "csv", {}, ["a", "b"], [1.5, 2.5]),
    ("a\tb\n1,5\t2,5\n", "csv", {}, ["a", "b"], [1.5, 2.5]),
    ("a,b\n1.5,2.5\n", "tsv", {}, ["a", "b"], [1.5, 2.5]),
    ("a|b\n1|2\n", "csv", {}, ["a", "b"], [1, 2]),
    ("1,5;2,5\n3,1;4,2\n", "csv", {"header": False}, ["x1", "x2"], [1.5, 2.5]),
    ('"a","b"\n"1,5","2,5"\n', "csv", {}, ["a", "b"], [1.5, 2.5]),
    ('"a","b"\n"1,5","2,5"\n', "csv", {"decimal": ","}, ["a", "b"], [1.5, 2.5]),
    ("a;b\n1,234;5\n", "csv", {"decimal": ","}, ["a", "b"], [1.234, 5]),
    ("a\n1,5\n2,5\n", "csv", {"decimal": ","}, ["a"], [1.5]),
    ("  a    b\n 1.5  2\n 10   20.5  \n", "txt", {}, ["a", "b"], [1.5, 2]),
    ("a     b\r\n1.5\t2\r\n10  20\r\n", "dat", {}, ["a", "b"], [1.5, 2]),
    ("1.0  2.0\n3.0  4.0\n", "txt", {"header": False}, ["x1", "x2"], [1, 2]),
    ('"my  a"  b\n1.5  2\n', "txt", {"delimiter": " "}, ["my  a", "b"], [1.5, 2]),
    ('"size, cm"\n1\n2\n', "csv", {}, ["size, cm"], [1]),
    ("size, cm\n1\n2\n", "csv", {}, ["size, cm"], [1]),
    ("size; cm\n1\n2\n", "csv", {}, ["size; cm"], [1]),
    ("sepal length\n1\n2\n", "txt", {}, ["sepal length"], [1]),
    ("# a b\n1.5 2\n3 4\n", "txt", {}, ["a", "b"], [1.5, 2]),
    ("#a,b\n1.5,2\n3,4\n", "csv", {}, ["a", "b"], [1.5, 2]),
    ("# made today\n# by me, here\n#\n# a,b\n1.5,2\n", "csv", {}, ["a", "b"], [1.5, 2]),
    ("# made, today\na,b\n1.5,2\n", "csv", {}, ["a", "b"], [1.5, 2]),
    ("# made, today\n1.5,2\n", "csv", {"header": False}, ["x1", "x2"], [1.5, 2]),
    ("\n\na,b\n1,2\n", "csv", {}, ["a", "b"], [1, 2]),
    ("a,b\r1,2\r3,4\r", "csv", {}, ["a", "b"], [1, 2]),
    ("a,b\n5,true\n6,FALSE\n", "csv", {}, ["a", "b"], [5, 1]),
    ('a;"b\nc"\n1,5;2\n', "csv", {}, ["a", "b\nc"], [1.5, 2]),
]


@pytest.mark.parametrize(("content", "ending", "options", "names", "row"), READ, ids=[f"{k}" for k in range(len(READ))])
def test_text_is_read_as_it_is(
    content: str, ending: str, options: dict[str, Any], names: list[str], row: list[float], tmp_path: Path
) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content.encode())
    source = open_source(path, Form(**options))
    assert source.names == names
    assert read(source, source.names, precision="double").values[0].tolist() == row


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda content: pa.Codec("zstd").compress(content).to_pybytes(),
}


@pytest.mark.parametrize("ending", PACK)
def test_packed_text_is_unpacked_while_it_is_read(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"a.csv{ending}").write_bytes(PACK[ending](f"a,b\n{LONG}".encode()))
    found = table(tmp_path / f"a.csv{ending}")
    assert found.columns == ("a", "b") and len(found.values) == 300_000 and found.values[-1, 0] == 299_999
    (tmp_path / f"b.TSV{ending}").write_bytes(PACK[ending](b"a\tb\n1\t2\n"))
    assert table(tmp_path / f"b.TSV{ending}").values.tolist() == [[1, 2]]
    (tmp_path / f"c.txt{ending}").write_bytes(PACK[ending](b" a  b\n 1  2\n10 20\n"))
    assert table(tmp_path / f"c.txt{ending}").values.tolist() == [[1, 2], [10, 20]]


def test_packed_text_in_several_parts_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n"))
    assert table(tmp_path / "a.csv.gz").values.tolist() == [[1, 2], [3, 4]]


def test_packed_text_that_is_damaged_is_one_sentence(tmp_path: Path) -> None:
    packed = gzip.compress(f"a,b\n{LONG}".encode())
    for content in (packed[: len(packed) // 2], packed[:-4], b"no gzip"):
        assert "can't be unpacked, as it is cut off or damaged" in refusal(tmp_path / "a.csv.gz", content)


def test_a_line_without_end_takes_no_more_memory_than_a_line_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "cifrun.data.tables.layout.LONGEST",
        "cifrun.data.tables.streams.LONGEST",
        "cifrun.data.tables.text.LONGEST",
    ):
        monkeypatch.setattr(name, 2**22)
    bomb = gzip.compress(b"1" * 2**25)
    assert "its first line is longer than" in refusal(tmp_path / "a.csv.gz", bomb)
    rows = gzip.compress(b"a,b\n" + b"1,2\n" * 300_000 + b"1" * 2**25)
    assert "is longer than 4,194,304 bytes" in refusal(tmp_path / "a.csv.gz", rows)
    rows = gzip.compress(b"a   b\n" + b"1   2\n" * 300_000 + b"1" * 2**25)
    assert "longer than 4,194,304 bytes" in refusal(tmp_path / "a.txt.gz", rows)


# --- names and lines of any length ------------------------------------------------------------------------------------


def test_names_may_take_more_than_a_block(tmp_path: Path) -> None:
    names = [f"a name of some length, {k}" for k in range(60_000)]
    line = ",".join(f'"{name}"' for name in names)
    assert len(line) > 2**20
    (tmp_path / "a.csv").write_text(f"{line}\n" + (",".join("7" for _ in names) + "\n") * 3)
    source = open_source(tmp_path / "a.csv")
    assert source.names == names
    assert read(source, names[-2:]).values.tolist() == [[7, 7]] * 3


def test_a_line_may_be_longer_than_a_block(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n" + LONG + "1,2" + " " * 3_000_000 + "\n7,8\n")
    found = table(tmp_path / "a.csv")
    assert np.array_equal(found.values[:300_000, 0], np.arange(300_000))
    assert found.values[300_000:].tolist() == [[1, 2], [7, 8]]
    (tmp_path / "a.csv").write_text("a,b\n" + LONG + "1,2" + " " * 3_000_000 + "\n7,x\n")
    assert "row 300002, column 'b' holds 'x'" in refusal(tmp_path / "a.csv")


def test_the_work_of_a_wide_table_grows_with_its_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow gives its columns out once a block, and lists of names are gone through once a file."""
    given: list[int] = []
    batch = module.Text._batch
    monkeypatch.setattr(
        module.Text, "_batch", lambda self, part, *rest: given.append(part.num_columns) or batch(self, part, *rest)
    )
    width = 5000
    (tmp_path / "a.csv").write_text(
        ",".join(f"x{k}" for k in range(width)) + "\n" + (",".join("1" * width) + "\n") * 40
    )

    class Counted(list[str]):
        looked = 0

        def __contains__(self, name: object) -> bool:
            Counted.looked += 1
            return super().__contains__(name)

        def index(self, *arguments: Any) -> int:
            Counted.looked += 1
            return super().index(*arguments)

    source = open_source(tmp_path / "a.csv")
    source.names = Counted(source.names)
    read(source, source.names)
    assert given == [width] and Counted.looked == 0


# --- columns that are not asked for -----------------------------------------------------------------------------------


def test_a_bad_column_that_is_not_asked_for_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("a,b,name\n1,,Zoë\n2,x,\n".encode("latin-1"))
    assert table(tmp_path / "a.csv", ["a"]).values.tolist() == [[1], [2]]


def test_columns_that_are_not_asked_for_may_be_there_twice_or_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b,a,,\n1,2,x,,7\n3,4,y,z,8\n")
    assert table(tmp_path / "a.csv", ["b"]).values.tolist() == [[2], [4]]
    text = refusal(tmp_path / "a.csv")
    assert "two columns 'a': rename one, or name the columns to use, 'dataset.columns=[b]'" in text


def test_a_name_with_the_sign_of_a_comment_is_found_by_both(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("# a,b\n1,2\n")
    assert table(tmp_path / "a.csv", ["# a"]).values.tolist() == table(tmp_path / "a.csv", ["a"]).values.tolist()


@pytest.mark.parametrize("header", ["", "colour,a,b\n", "# colour,a,b\n", "# made by me\n"])
@pytest.mark.parametrize("first", ["#ff0000", "red"])
def test_a_row_that_begins_with_the_sign_of_a_comment_is_a_row(first: str, header: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{header}{first},1,2\n#00ff00,3,4\nblue,5,6\n")
    found = table(tmp_path / "a.csv", ["a", "b"] if "," in header else ["2", "3"], header="," in header)
    assert found.values.tolist() == [[1, 2], [3, 4], [5, 6]]
    if "by me" in header:  # and nothing but such rows: nothing tells it from them
        return
    (tmp_path / "a.csv").write_text(f"{header}#ff0000,1,2\n#00ff00,3,4\n")
    found = table(tmp_path / "a.csv", ["a", "b"] if "," in header else ["2", "3"], header="," in header)
    assert found.values.tolist() == [[1, 2], [3, 4]]


# --- what may be read in two ways -------------------------------------------------------------------------------------

ASKED: list[tuple[str, dict[str, Any], list[str]]] = [
    ("a;b\n1,234;5\n6,789;2\n", {}, ["'1,234', which may be 1234 or 1.234", "dataset.decimal=,"]),
    ("a\n1,5\n2,5\n", {}, ["row 1 has 2 fields", "its first line names 1 column;", "dataset.decimal=,"]),
    ("a;b\n1;2\n" + "3;4\n" * 2000 + "1,5;2\n", {}, ["row 2002", "'1,5'", "dataset.decimal=,"]),
    ("a;b\n1,5;2\n" + "3;4\n" * 2000 + "1.5;2\n", {}, ["row 2002", "'1.5'", "decimal comma of the first lines"]),
    ("a;b\n1.234,5;5\n", {}, ["'1.234,5'", "between its thousands"]),
    ("a,b\n5,true\n" + "6,false\n" * 2000 + "7,3.5\n", {}, ["row 2002", "'3.5'", "neither true nor false"]),
    ("1,2,\n4,3,5\n", {}, ["nothing but numbers", "dataset.header=false"]),
    ("1,true\n4,false\n", {}, ["nothing but numbers", "dataset.header=false"]),
    ("1,5;2\n4;3\n", {}, ["nothing but numbers", "dataset.header=false"]),
    ("a;b\n1;2\n3\n", {}, ["row 2 has 1 field, and those before it 2"]),
    ("a;b\nr1;1;2\nr2;3;4\n", {}, ["row 1 has 3 fields", "names 2 columns", "row names"]),
    ('a,b\n"1,2\n', {}, ["a.csv"]),
    ("# nothing else\n", {}, ["no rows"]),
    ("a,b\n", {}, ["no rows"]),
    ("a   b\n1   2\n3\n", {}, ["row 2 has 1 field"]),
]


@pytest.mark.parametrize(("content", "options", "words"), ASKED, ids=[f"{k}" for k in range(len(ASKED))])
def test_one_sentence_says_what_to_type(
    content: str, options: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    text = refusal(tmp_path / "a.csv", content, **options)
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n", True),
        ("2020-01-01,5\n2020-01-02,6\n", True),
        ("place,2019,2020\nhere,1,2\n", True),
        ("a,b\n1,2\n", False),
        ("1st,b\n1,2\n", False),
    ],
)
def test_a_first_row_that_may_be_data_is_told(
    content: str, told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text(content)
    open_source(tmp_path / "a.csv")
    err = capsys.readouterr().err
    assert ("is taken as the names of its columns: say dataset.header=false if it is data" in err) is told
    open_source(tmp_path / "a.csv", Form(header=True))
    assert capsys.readouterr().err == ""
