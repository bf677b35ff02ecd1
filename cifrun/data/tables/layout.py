"""How a text is laid out, as its first lines show: what separates columns and decimals, and where the numbers begin.

Only what is plain is decided. What may be read in two ways is one sentence, with the words that say which is meant.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ...errors import ConfigError
from .source import listed, warn
from .streams import LONGEST, unpacked_name

__all__ = ["NULLS", "Layout", "first_lines", "is_number", "layout_of", "with_comma"]

#: Bytes of the first lines that are looked at, at least, and records that are.
LOOKED_AT, RECORDS = 2**20, 1000
#: Texts that stand for a number that is not there.
NULLS = ["", "NA", "N/A", "#N/A", "n/a", "NULL", "null", "None", "-", "?"]
#: What may separate columns, if the user does not say; a blank stands for a run of blanks and tabs.
MARKS = (",", ";", "\t", "|", " ")
#: Separates the columns of a text that has one: it is in no text.
NOTHING = "\x1f"
#: Lines before the table may begin with this.
COMMENT = re.compile(rb"[ \t]*#")
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|$)")
#: 1,5 and −,5e3; and 1,234, which may be 1234 in English.
_COMMA = re.compile(r"\s*[+-]?(\d+,\d*|,\d+)([eE][+-]?\d+)?\s*")
_GROUPED = re.compile(r"\s*[+-]?[1-9]\d{0,2}(,\d{3})\s*")


class Layout(NamedTuple):
    """What the first lines say.

    Attributes:
        delimiter: Separates columns: one character, a blank for runs of blanks, `NOTHING` for a single column.
        decimal: The decimal sign.
        names: Of the columns; none if the text names none.
        width: Number of columns.
        start: Bytes before the first row.
        booleans: Places of columns of true and false.
        longest: Bytes of the longest line.
        alias: The first column's name as it stands behind a comment's sign, with the name without that sign.
    """

    delimiter: str
    decimal: str
    names: list[str] | None
    width: int
    start: int
    booleans: frozenset[int]
    longest: int
    alias: dict[str, str]


def is_number(text: str) -> bool:
    """Whether a text stands for a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def with_comma(text: str) -> bool:
    """Whether a text stands for a number with a decimal comma."""
    return _COMMA.fullmatch(text) is not None


def first_lines(stream: Any) -> tuple[bytes, bool]:
    """The first lines of a text, at least five of them, and whether they are all of it.

    A line that is longer than `LONGEST` is cut off.
    """
    content, least = bytearray(), LOOKED_AT
    while True:
        while len(content) < least:
            more = stream.read(least - len(content))
            if not more:
                return bytes(content), True
            content += more
        if len(content) >= LONGEST or content.count(b"\n") >= 5 or content.count(b"\r") >= 5:
            return bytes(content), False
        least *= 2


def layout_of(path: Path, content: bytes, whole: bool, delimiter: str | None, header: Any, decimal: str) -> Layout:
    """The layout of a text whose first lines are `content`.

    Arguments:
        whole: Whether that is all of it.
        delimiter, header, decimal: What the user says; None and "auto" to find it out.

    Raises:
        ConfigError: It may be read in two ways, or not at all.
    """
    if b"\0" in content[:4096]:
        raise not_utf8(path)
    if not whole and not re.search(rb"[\r\n]", content):
        raise ConfigError(f"{path} can't be read as a table: its first line is longer than {len(content):,} bytes")
    start = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    begin = start
    comments, start = _comments(content, start, blank_too=header is not False)
    body = content[start:].decode("utf-8", "surrogateescape")
    if not body.strip() and comments:  # every line begins with the sign
        comments, start = [], begin
        body = content[start:].decode("utf-8", "surrogateescape")
    if not body.strip():
        raise ConfigError(f"{path} is empty")
    mark = delimiter or _delimiter(path, body, whole, decimal)
    records = list(islice(_records(body, mark, whole), RECORDS + 1))
    if not records:
        raise ConfigError(f"{path} can't be read as a table: a quote in its first line has no end")
    row = next((k for k, (line, _) in enumerate(comments) if _is_row(line, mark, len(records[0][0]))), None)
    if row is not None:
        comments, start = comments[:row], comments[row][1]
        body = content[start:].decode("utf-8", "surrogateescape")
        records = list(islice(_records(body, mark, whole), RECORDS + 1))
    first, end = records[0]
    rows = [cells for cells, _ in records[1:]]
    rest = [first, *rows]
    alias: dict[str, str] = {}
    names: list[str] | None = None
    if header is not False and (found := _commented([line for line, _ in comments], mark, first)):
        names, alias = found
    elif header is not False and _has_names(path, first, rows, header):
        names, rest, start = first, rows, start + len(body[:end].encode("utf-8", "surrogateescape"))
    if names is not None and any("\udc80" <= sign <= "\udcff" for name in names for sign in name):
        raise not_utf8(path)
    width = len(first) if names is None else len(names)
    return Layout(
        mark,
        _decimal(path, rest) if decimal == "auto" else decimal,
        names,
        width,
        start,
        frozenset(_booleans(rest, width)),
        max(map(len, re.split(rb"[\r\n]", content))),
        alias,
    )


def not_utf8(path: Path) -> ConfigError:
    """The sentence for a text of another encoding."""
    return ConfigError(f"{path} is not UTF-8 text: save it in that encoding")


# --- lines ------------------------------------------------------------------------------------------------------------


def _comments(content: bytes, start: int, blank_too: bool) -> tuple[list[tuple[str, int]], int]:
    """The lines before the table that begin with a comment's sign, each with its place, and where the table begins."""
    comments = []
    while start < len(content):
        line = (_LINE.match(content, start) or [b""])[0]
        if COMMENT.match(line):
            comments.append((line.decode("utf-8", "surrogateescape"), start))
        elif line.strip() or not blank_too:
            break
        start += len(line)
    return comments, start


def _is_row(line: str, mark: str, width: int) -> bool:
    """Whether a line that begins with a comment's sign is a row of the table: #ff0000,1,2."""
    cells = next((cells for cells, _ in _records(line, mark, True)), [])
    return len(cells) == width and any(map(_is_value, cells[1:]))


def _records(text: str, mark: str, whole: bool) -> Iterator[tuple[list[str], int]]:
    """The records of a text, and where each ends; the last only if the text is whole."""
    done, before = 0, None

    def lines() -> Iterator[str]:
        nonlocal done
        for line in io.StringIO(text, newline=""):
            done += len(line)
            yield line

    if mark == " ":
        split: Iterator[list[str]] = (
            [cell[1:-1] if cell[:1] == '"' == cell[-1:] else cell for cell in re.findall(r'"[^"]*"|[^ \t\r\n]+', line)]
            for line in lines()
        )
    else:
        split = csv.reader(lines(), delimiter=mark)
    try:
        for cells in split:
            if not cells:
                continue
            if before is not None:
                yield before
            before = cells, done
    except csv.Error:  # a quote that does not end, as a rule
        return
    if before is not None and (whole or text.endswith("\n")):
        yield before


# --- what separates columns -------------------------------------------------------------------------------------------


def _delimiter(path: Path, text: str, whole: bool, decimal: str) -> str:
    """The mark that gives all records the same number of columns, and leaves no numbers side by side in a cell."""
    usual = "\t" if unpacked_name(path).suffix.lower() in (".tsv", ".tab") else ","
    marks = [mark for mark in (usual, *(mark for mark in MARKS if mark != usual)) if mark == usual or mark in text]
    widths: dict[str, tuple[float, int]] = {}
    clean: list[str] = []
    for mark in marks:
        if mark == "," and decimal == "," and '"' not in text:
            continue
        records = [cells for cells, _ in islice(_records(text, mark, whole), RECORDS)]
        if not records:
            continue
        (width, times), *_ = Counter(map(len, records)).most_common(1)
        widths[mark] = (times / len(records), width)
        if width > 1 and times == len(records) and _is_clean(records[1:] or records):
            clean.append(mark)
    same = [mark for mark, (share, width) in widths.items() if share == 1 and width > 1]
    for found in (clean, same):
        several = [mark for mark in found if mark != " "] or found
        if usual in several or len(several) == 1:
            return usual if usual in several else several[0]
        if several:
            ways = " or ".join(f"dataset.delimiter='{_typed(mark)}'" for mark in several)
            raise ConfigError(f"{path} can be split into columns in several ways: say {ways}")
    lines = [cells[0] for cells, _ in islice(_records(text, NOTHING, whole), 1, RECORDS)]
    if not any(re.search(r"[,;\t|]|\S[ ]+\S", line) for line in lines):
        return NOTHING
    if decimal == "," and all(with_comma(line) or is_number(line) or line in NULLS for line in lines):
        return NOTHING
    most = [mark for mark, (share, width) in widths.items() if share > 0.5 and width > 1]
    return most[0] if most else NOTHING if usual == decimal else usual


def _is_clean(rows: Sequence[Sequence[str]]) -> bool:
    """Whether no cell looks as if it were several: 5;2 or 1,2,3."""
    for row in rows:
        for cell in row:
            if re.search(r"\d\s*[;\t|]\s*[\d+.-]", cell) and not is_number(cell):
                return False
            if re.fullmatch(r"[\d.eE+-]+(,[\d.eE+-]+){2,}", cell) and not re.fullmatch(r"[\d.]+(,\d{3})+", cell):
                return False
    return True


def _typed(mark: str) -> str:
    return mark.replace("\t", "\\t")


# --- names ------------------------------------------------------------------------------------------------------------


def _is_value(cell: str) -> bool:
    """Whether a cell is what stands in a column of numbers: a number, or true or false."""
    return is_number(cell) or with_comma(cell) or cell.strip().lower() in ("true", "false")


def _has_names(path: Path, first: list[str], rows: Sequence[list[str]], header: Any) -> bool:
    """Whether the first record names the columns, with `dataset.header` as it is.

    Raises:
        ConfigError: That is to be found out, and it may be a row.
    """
    if header is True:
        return True
    values = [_is_value(cell) for cell in first]
    # A first name that is empty is of row numbers, as pandas writes them, beside columns without names.
    if first[0] and any(values) and all(value or cell in NULLS for value, cell in zip(values, first, strict=True)):
        raise ConfigError(
            f"{path}: its first line, {listed(first)}, holds nothing but numbers: say "
            f"dataset.header=false if they are data, or dataset.header=true if they are names"
        )
    below = rows[0] if rows else []
    if any(value and k < len(below) and _is_value(below[k]) for k, value in enumerate(values)):
        warn(
            f"the first line of {path}, {listed(first)}, is taken as the names of its columns: say "
            f"dataset.header=false if it is data, dataset.header=true if it is right"
        )
    return True


def _commented(comments: Sequence[str], mark: str, first: Sequence[str]) -> tuple[list[str], dict[str, str]] | None:
    """The names in the last line of comments, if it has as many as the row of numbers that follows.

    The second part says what the first of them is called with the comment's sign.
    """
    if not comments or not any(map(_is_value, first)):
        return None
    whole, bare = (
        next((cells for cells, _ in _records(text, mark, True) if len(cells) == len(first)), None)
        for text in (comments[-1], re.sub(r"^\s*#+[ \t]*", "", comments[-1]))
    )
    names = bare if bare is not None and bare[0].strip() else whole  # a sign alone is a name
    if names is None or any(map(_is_value, names)):
        return None
    return names, {} if whole is None or whole[0] == names[0] else {whole[0]: names[0]}


# --- numbers ----------------------------------------------------------------------------------------------------------


def _decimal(path: Path, rows: Sequence[Sequence[str]]) -> Literal[".", ","]:
    """A comma if numbers have one, and none has a point.

    Raises:
        ConfigError: The commas may be between thousands.
    """
    commas = [cell for row in rows for cell in row if "," in cell and with_comma(cell)]
    if not commas or any("." in cell and is_number(cell) for row in rows for cell in row):
        return "."
    if all(_GROUPED.fullmatch(cell) for cell in commas):
        raise ConfigError(
            f"{path} holds '{commas[0].strip()}', which may be "
            f"{commas[0].strip().replace(',', '')} or {commas[0].strip().replace(',', '.')}: say dataset.decimal=, if "
            f"the comma is the decimal sign, or remove the commas between thousands"
        )
    return ","


def _booleans(rows: Sequence[Sequence[str]], width: int) -> Iterator[int]:
    """The places of columns that hold true and false, and nothing else."""
    words = {"true", "false"}
    likely = [k for k, cell in enumerate(rows[0] if rows else ()) if k < width and not is_number(cell)]
    for k in likely:
        cells = {row[k].strip() for row in rows if k < len(row)} - set(NULLS)
        if cells and {cell.lower() for cell in cells} <= words:
            yield k
