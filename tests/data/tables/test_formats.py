"""A table's file by its ending, and one sentence, with the place, for what can't be read."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from cifrun.data.tables.formats import ENDINGS, open_source
from cifrun.data.tables.text import Text
from cifrun.errors import ConfigError
from tests.data.tables.helpers import GOOD, LONG, refusal, table

# --- mistakes, one by one ---------------------------------------------------------------------------------------------

BAD: list[tuple[str, bytes | str, dict[str, Any], list[str]]] = [
    ("a.csv", f"a,b\n{GOOD}6,x\n", {}, ["row 6", "column 'b'", "'x'", "no number", "'dataset.columns=[a]'"]),
    ("a.csv", f"a,b\n{LONG}6,x\n", {}, ["row 300001", "column 'b'", "'x'"]),
    ("a.csv", "species,a,b\nsetosa,1,2\n", {}, ["row 1", "column 'species'", "'setosa'", "'dataset.columns=[a,b]'"]),
    ("a.csv", f"a,b\n{GOOD}6,\n", {}, ["row 6", "column 'b'", "is empty", "dataset.missing=skip"]),
    ("a.csv", f"a,b\n{LONG}NA,1\n", {}, ["row 300001", "column 'a'", "is empty"]),
    ("a.csv", f"a,b\n{GOOD}6\n", {}, ["row 6", "1 field,", "2"]),
    ("a.csv", f"a,b\n{LONG}6,7,8\n", {}, ["row 300001", "3 fields", "2"]),
    ("a.csv", f"a,a\n{GOOD}", {}, ["two columns 'a'"]),
    ("a.csv", GOOD, {}, ["first line, 1, 1,", "dataset.header=false", "dataset.header=true"]),
    ("a.csv", f"{GOOD}x,1\n", {"header": False}, ["row 6", "column 'x1'", "'x'"]),
    ("a.csv", "a\n1\n\n3\n", {}, ["row 2", "column 'a'", "is empty"]),
    ("a.csv", "\n1\n", {"header": False}, ["row 1", "column 'x1'", "is empty"]),
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
    ("a.npy.gz", "x", {}, ["only text", "unpack it first"]),
    ("a.gz", "x", {}, ["ending"]),
]


@pytest.mark.parametrize(("name", "content", "options", "words"), BAD, ids=[f"{k}" for k in range(len(BAD))])
def test_one_sentence_says_what_and_where(
    name: str, content: bytes | str, options: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    text = refusal(tmp_path / name, content, **options)
    assert all(word in text for word in words), text


@pytest.mark.parametrize("ending", [ending for ending, kind in ENDINGS.items() if kind is Text])
def test_endings_of_text(ending: str, tmp_path: Path) -> None:
    mark = "\t" if ending in (".tsv", ".tab") else ","
    (tmp_path / f"a{ending.upper()}").write_text(f"a{mark}b\n1{mark}2\n")
    assert table(tmp_path / f"a{ending.upper()}").values.tolist() == [[1, 2]]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a\n1\n")
    assert "did you mean 'data.csv'?" in refusal(tmp_path / "dat.csv")
    assert "there is no file" in refusal(tmp_path / "nowhere" / "x.csv")
    assert "there is no file" in refusal(tmp_path) and "is a folder" in refusal(tmp_path)


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_what_is_no_file_keeps_nobody_waiting(ending: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"pipe{ending}")
    assert "is a pipe: write what comes out of it to a file first" in refusal(tmp_path / f"pipe{ending}")
    (tmp_path / f"zero{ending}").symlink_to("/dev/zero")
    assert "is a device" in refusal(tmp_path / f"zero{ending}")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
        (tmp_path / "s").rename(tmp_path / f"s{ending}")
        assert "is a socket" in refusal(tmp_path / f"s{ending}")
    (tmp_path / f"self{ending}").symlink_to(tmp_path / f"self{ending}")
    assert "there is no file" in refusal(tmp_path / f"self{ending}")


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "link.csv").symlink_to("a.csv")
    assert table(tmp_path / "link.csv").values.tolist() == [[1, 2]]


def test_a_file_that_may_not_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")

    def refuse(*_: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("cifrun.data.regular.os.open", refuse)
    with pytest.raises(ConfigError, match=r"a\.csv can't be read: Permission denied"):
        open_source(tmp_path / "a.csv")
