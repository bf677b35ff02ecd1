"""Tables of text: csv and tsv. Arrow reads them, and tells the row of what it can't read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from re import search
from typing import Any

from ...errors import ConfigError
from ...io.optional import need
from .source import Batch, Source, listed

__all__ = ["Text", "is_number"]

#: Texts that stand for a number that is not there.
NULLS = ["", "NA", "N/A", "#N/A", "n/a", "NULL", "null", "None", "-", "?"]


class Text(Source):
    """Comma- or tab-separated text in UTF-8."""

    def _open(self) -> None:
        if self.delimiter is None:
            self.delimiter = "\t" if self.path.suffix.lower() in (".tsv", ".tab") else ","
        if len(self.delimiter) != 1 or not self.delimiter.isascii() or self.delimiter in '"\r\n':
            raise ConfigError(
                f"dataset.delimiter = {self.delimiter!r} is not allowed: it should be one ASCII character, "
                f"or \\t for a tab"
            )
        self.numbered = self.header is False
        with self._sentences():
            names = list(self._stream().schema.names)
        self.names = [f"x{k + 1}" for k in range(len(names))] if self.numbered else names
        if self.header == "auto" and all(map(is_number, self.names)):
            raise ConfigError(
                f"{self.path}: its first line, {listed(self.names)}, holds nothing but numbers: say "
                f"dataset.header=false if they are data, or dataset.header=true if they are names"
            )
        if len(self.names) == 1 and (found := search(r"[;\t|,]", self.names[0])):
            separator = found[0].replace("\t", "\\t")
            raise ConfigError(
                f"{self.path} has one column, '{self.names[0]}': if '{separator}' separates columns, "
                f"say dataset.delimiter='{separator}'"
            )

    def _stream(self, columns: Sequence[str] = (), label: str | None = None) -> Any:
        """Arrow's reader of these columns; with none, of all, in the types that it makes out."""
        arrow, csv = (need(name, f"reading {self.path.name}") for name in ("pyarrow", "pyarrow.csv"))
        types: dict[str, Any] = dict.fromkeys(columns, arrow.float64())
        if label is not None:
            types[label] = arrow.string()
        names = self.names if self.numbered and self.names else None
        return csv.open_csv(
            self.path,
            # One thread: only then does Arrow know the row of what it can't read.
            csv.ReadOptions(
                use_threads=False, column_names=names, autogenerate_column_names=self.numbered and not names
            ),
            # In a single column, an empty line is a number that is not there.
            csv.ParseOptions(
                delimiter=self.delimiter, newlines_in_values=True, ignore_empty_lines=len(self.names) != 1
            ),
            csv.ConvertOptions(
                column_types=types,
                include_columns=list(types) or None,
                null_values=NULLS,
                quoted_strings_can_be_null=True,
            ),
        )

    def batches(self, columns: Sequence[str], label: str | None) -> Iterator[Batch]:
        done = 0
        with self._sentences():
            for part in self._stream(columns, label):
                yield self._arrow_batch(part, columns, label, done)
                done += len(part)

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """Arrow's messages in our words."""
        arrow = need("pyarrow", f"reading {self.path.name}")
        try:
            yield
        except UnicodeDecodeError as error:
            raise self._not_utf8() from error
        except (arrow.ArrowInvalid, arrow.ArrowKeyError) as error:
            text = " ".join(str(error).split())
            row = (int(found[1]) if (found := search(r"Row #(\d+)", text)) else 1) - (not self.numbered)
            if "Empty CSV" in text:
                raise ConfigError(f"{self.path} is empty") from error
            with open(self.path, "rb") as stream:
                if b"\0" in stream.read(4096):
                    raise self._not_utf8() from error
            if "include_columns" in text:  # a single column, where an empty line counts
                raise ConfigError(f"{self.path} begins with an empty line: remove it") from error
            if found := search(r"Expected (\d+) columns, got (\d+)", text):
                fields = f"{found[2]} field{'s' if found[2] != '1' else ''}"
                raise ConfigError(f"{self.path}: row {row} has {fields}, and those before it {found[1]}") from error
            if found := search(r"CSV column #(\d+):.*invalid value '(.*)'", text):
                raise self.no_number(row, self.names[int(found[1])], found[2][:40]) from error
            if "UTF8" in text:
                raise self._not_utf8() from error
            raise ConfigError(f"{self.path} can't be read as a table: {text}") from error

    def _not_utf8(self) -> ConfigError:
        return ConfigError(f"{self.path} is not UTF-8 text: save it in that encoding")


def is_number(text: str) -> bool:
    """Whether a text stands for a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
