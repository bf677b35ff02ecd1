"""Text with a line a row: csv, tsv and their kin, packed or not. Arrow reads the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from re import search
from typing import Any

from ...errors import ConfigError
from ...io.optional import need
from .arrow import ArrowSource
from .layout import NOTHING, NULLS, first_lines, layout_of, not_utf8, with_comma
from .streams import LONGEST, Blanks, open_text

__all__ = ["Text"]

#: Bytes that Arrow takes at once, at least, and at most if no line is longer; and lines, if there is room.
BLOCK, MOST, LINES = 2**20, 2**25, 256


class Text(ArrowSource):
    """Text in UTF-8. `layout.py` says how it finds out what separates columns, and where the numbers begin.

    Arrow knows the columns by their places, as names may be there twice, and sees nothing above the first row.
    """

    def _open(self) -> None:
        delimiter, header, decimal, _ = self.form
        if delimiter is not None and (len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n'):
            raise ConfigError(
                f"dataset.delimiter = {delimiter!r} is not allowed: it should be one ASCII character, or \\t for a tab"
            )
        with self._sentences():
            stream = open_text(self.path)
            with stream:
                content, whole = first_lines(stream)
            self.layout = layout_of(self.path, content, whole, delimiter, header, decimal)
        self.numbered = self.layout.names is None
        self.names = self.layout.names or [f"x{k + 1}" for k in range(self.layout.width)]
        self.alias = self.layout.alias

    def _parts(self, columns: Sequence[int], label: int | None) -> Iterator[Any]:
        """Arrow's record batches; where a line is longer than its blocks, it begins again with larger ones."""
        size = max(BLOCK, min(MOST, LINES * self.layout.longest), 2 * self.layout.longest)
        arrow, done = need("pyarrow", f"reading {self.path.name}"), 0
        while True:
            try:
                left = done
                for part in self._reader(columns, label, size):
                    if left >= len(part):
                        left -= len(part)
                        continue
                    fresh, left = part.slice(left), 0
                    done += len(fresh)
                    yield fresh
                return
            except arrow.ArrowInvalid as error:
                if "straddl" not in str(error):
                    raise
                if size > LONGEST:
                    where = f"row {done + 1} or one of those that follow it"
                    raise ConfigError(f"{self.path}: {where} is longer than {LONGEST:,} bytes") from None
                size *= 4

    def _reader(self, columns: Sequence[int], label: int | None, size: int) -> Iterator[Any]:
        arrow, csv = (need(name, f"reading {self.path.name}") for name in ("pyarrow", "pyarrow.csv"))
        kinds = {k: arrow.bool_() if k in self.layout.booleans else arrow.float64() for k in columns}
        if label is not None:
            kinds[label] = arrow.string()
        stream = open_text(self.path)
        with stream:
            left = self.layout.start
            while left and (skipped := len(stream.read(min(left, BLOCK)))):
                left -= skipped
            blanks = self.layout.delimiter == " "
            reader = csv.open_csv(
                arrow.PythonFile(Blanks(stream, self.path), "r") if blanks else stream,
                # One thread: only then does Arrow know the row of what it can't read.
                csv.ReadOptions(
                    use_threads=False, column_names=[str(k) for k in range(len(self.names))], block_size=size
                ),
                # In a single column, an empty line is a number that is not there.
                csv.ParseOptions(
                    delimiter="\t" if blanks else self.layout.delimiter,
                    newlines_in_values=not blanks,
                    ignore_empty_lines=len(self.names) != 1,
                ),
                csv.ConvertOptions(
                    column_types={str(k): kind for k, kind in kinds.items()},
                    include_columns=[str(k) for k in kinds],
                    null_values=NULLS,
                    quoted_strings_can_be_null=True,
                    decimal_point=self.layout.decimal,
                    true_values=["true", "True", "TRUE"],
                    false_values=["false", "False", "FALSE"],
                ),
            )
            with reader:
                yield from reader

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        arrow = need("pyarrow", f"reading {self.path.name}")
        try:
            yield
        except UnicodeDecodeError as error:
            raise not_utf8(self.path) from error
        except MemoryError as error:
            raise ConfigError(f"{self.path} can't be read: a line of it does not fit into memory") from error
        except OSError as error:
            if error.errno is not None:
                raise ConfigError(f"{self.path} can't be read: {error.strerror or error}") from error
            reason = " ".join(str(error).split())
            raise ConfigError(f"{self.path} can't be unpacked, as it is cut off or damaged: {reason}") from error
        except (arrow.ArrowInvalid, arrow.ArrowKeyError) as error:
            text = " ".join(str(error).split())
            row = int(found[1]) if (found := search(r"Row #(\d+)", text)) else 1
            if found := search(r"Expected (\d+) columns, got (\d+)", text):
                raise self._ragged(row, int(found[2]), int(found[1])) from error
            if found := search(r"CSV column #(\d+):.*invalid value '(.*)'", text):
                raise self._no_number(row, int(found[1]), found[2]) from error
            if "Empty CSV" in text:
                raise ConfigError(f"{self.path} has no rows") from error
            if "UTF8" in text:
                raise not_utf8(self.path) from error
            raise ConfigError(f"{self.path} can't be read as a table: {text}") from error

    def _ragged(self, row: int, count: int, expected: int) -> ConfigError:
        """The sentence for a row of more or fewer fields than there are columns."""
        fields = f"{count} field{'s' if count != 1 else ''}"
        told = f"{self.path}: row {row} has {fields}, and those before it {expected}"
        if row == 1 and not self.numbered:
            names = f"{expected} column{'s' if expected != 1 else ''}"
            told = f"{self.path}: row {row} has {fields}, and its first line names {names}"
            if count == expected + 1 and self.layout.delimiter != ",":
                told += ", as if row names had been saved along: save it without them"
        if self.layout.delimiter == "," and self.layout.decimal != ",":
            told += "; if a comma is its decimal sign, say dataset.decimal=,"
        return ConfigError(told)

    def _no_number(self, row: int, place: int, value: str) -> ConfigError:
        """The sentence for a text where a number should be."""
        what = f"row {row}, column '{self.names[place]}' holds '{value[:40]}', "
        if place in self.layout.booleans:
            return self.unusable(f"{what}and neither true nor false as above", self.names[place])
        what += "no number"
        if search(r"^\s*[+-]?\d{1,3}([.,]\d{3})+([.,]\d*)?\s*$", value):
            what += ", perhaps for the signs between its thousands"
        elif self.layout.decimal == "." and with_comma(value):
            what += "; if the comma is the decimal sign, say dataset.decimal=,"
            return ConfigError(f"{self.path}: {what}")
        elif self.layout.decimal == "," and self.form.decimal == "auto":
            what += " with the decimal comma of the first lines"
        if self.layout.delimiter == NOTHING and (marks := search(r"[,;\t| ]", value)):
            sign = marks[0].replace("\t", "\\t")
            return ConfigError(f"{self.path}: {what}; if '{sign}' separates columns, say dataset.delimiter='{sign}'")
        return self.unusable(what, self.names[place])
