"""Runs of blanks become one tab, however the text is cut into pieces."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from cifrun.data.tables.streams import Blanks, unpacked_name

TEXT = b'  1  2\t3  \r\n\n"a  b" c   d\n\t x y  z'


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_blanks_become_tabs(size: int) -> None:
    stream = Blanks(io.BytesIO(TEXT), Path("a.txt"))
    parts = []
    while part := stream.read(size):
        assert len(part) <= size
        parts.append(part)
    assert b"".join(parts) == b'1\t2\t3\r\n\n"a  b"\tc\td\nx\ty\tz'
    stream.close()
    assert stream.closed


def test_the_ending_that_says_how_a_file_is_packed() -> None:
    assert unpacked_name(Path("a/b.csv.GZ")) == Path("a/b.csv")
    assert unpacked_name(Path("a/b.csv")) == Path("a/b.csv")
