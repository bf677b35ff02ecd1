"""What the first lines of a text say of the rest."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.data.tables.layout import NOTHING, first_lines, is_number, layout_of, with_comma
from cifrun.errors import ConfigError

FILE = Path("a.csv")


def layout(content: str, path: Path = FILE, delimiter: str | None = None, header: Any = "auto", decimal: str = "auto"):  # type: ignore[no-untyped-def]
    return layout_of(path, content.encode(), True, delimiter, header, decimal)


@pytest.mark.parametrize(("text", "number"), [("1", True), ("-2e5", True), ("nan", True), ("", False), ("x1", False)])
def test_a_header_of_numbers_is_told_by_its_texts(text: str, number: bool) -> None:
    assert is_number(text) is number


@pytest.mark.parametrize(
    ("text", "number"), [("1,5", True), ("-,5e3", True), ("1,", True), (",", False), ("1,2,3", False), ("1.5", False)]
)
def test_a_number_with_a_decimal_comma(text: str, number: bool) -> None:
    assert with_comma(text) is number


@pytest.mark.parametrize(
    ("content", "mark", "decimal", "width"),
    [
        ("a,b\n1,2\n", ",", ".", 2),
        ("a;b\n1,5;2,5\n", ";", ",", 2),
        ("1,5;2,5\n2,5;3,5\n", ";", ",", 2),
        ("a\tb\n1\t2\n", "\t", ".", 2),
        ("a b\n1  2\n", " ", ".", 2),
        ("a\n1\n", NOTHING, ".", 1),
        ("a, b\n1, 2\n", ",", ".", 2),
        ("a; b\n1; 2\n", ";", ".", 2),
        ("a,b,note\n1,2,x;y\n3,4,z;w\n", ",", ".", 3),
        ("time,b\n2020-01-01 10:00,2\n", ",", ".", 2),
        ('a,b\n"1;2",3\n', ",", ".", 2),
    ],
)
def test_marks_are_found(content: str, mark: str, decimal: str, width: int) -> None:
    header = False if content[0].isdigit() else "auto"
    found = layout(content, header=header)
    assert (found.delimiter, found.decimal, found.width) == (mark, decimal, width)


def test_two_ways_to_split_are_asked() -> None:
    with pytest.raises(ConfigError, match=r"in several ways: say dataset\.delimiter=';' or dataset\.delimiter='\|'"):
        layout("a;x|b;c\nu;x|v;w\n")
    assert layout("a;x|b;c\nu;x|v;w\n", delimiter="|").width == 2


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("before", ["", "\ufeff", "# by me\n\n", "\ufeff\n# by me\r\n"])
def test_the_place_of_the_first_row(before: str, end: str) -> None:
    content = before + f'"größe,{end} in cm",b{end}1,2{end}3,4{end}'
    found = layout(content)
    assert content.encode()[found.start :].decode() == f"1,2{end}3,4{end}"
    assert found.names == [f"größe,{end} in cm", "b"]


def test_first_lines_are_at_least_five_and_whole_files_are_known() -> None:
    assert first_lines(io.BytesIO(b"a\n1\n")) == (b"a\n1\n", True)
    line = b"x" * 300_000 + b"\n"
    content, whole = first_lines(io.BytesIO(line * 20))
    assert content.count(b"\n") >= 5 and not whole


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=2, max_size=20), st.sampled_from(",;\t|")
)
@settings(max_examples=50, deadline=None)
def test_what_programs_write_is_told_without_a_word(rows: list[list[float]], mark: str) -> None:
    lines = [mark.join(map(repr, row)) for row in rows]
    found = layout(mark.join("abc") + "\n" + "\n".join(lines) + "\n")
    assert (found.delimiter, found.decimal, found.names) == (mark, ".", ["a", "b", "c"])
    if mark != ",":
        found = layout((mark.join("abc") + "\n" + "\n".join(lines) + "\n").replace(".", ","))
        assert (found.delimiter, found.names) == (mark, ["a", "b", "c"])
