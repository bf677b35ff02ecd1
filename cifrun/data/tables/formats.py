"""The formats of a table, by the ending of the file's name: csv, tsv, parquet, npy or npz.

Arrow reads text and Parquet, NumPy its own arrays.
"""

from __future__ import annotations

import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from re import search
from typing import Any, Literal

import numpy as np

from ...errors import ConfigError, did_you_mean
from ...io.optional import need
from .source import Batch, Source, at_once, listed

__all__ = ["ENDINGS", "Arrays", "Parquet", "Text", "is_number", "open_source"]

#: Texts that stand for a number that is not there.
NULLS = ["", "NA", "N/A", "#N/A", "n/a", "NULL", "null", "None", "-", "?"]


class ArrowSource(Source):
    """A file that Arrow reads, in its record batches."""

    def batches(self, columns: Sequence[str], label: str | None) -> Iterator[Batch]:
        done = 0
        with self._sentences():
            for part in self._parts(columns, label):
                yield self._batch(part, columns, label, done)
                done += len(part)

    @abstractmethod
    def _parts(self, columns: Sequence[str], label: str | None) -> Iterator[Any]:
        """Arrow's record batches of these columns."""

    @abstractmethod
    def _sentences(self) -> AbstractContextManager[None]:
        """Inside, Arrow's messages come in our words."""

    def _batch(self, part: Any, columns: Sequence[str], label: str | None, done: int) -> Batch:
        """One of Arrow's record batches, after `done` rows, as arrays; refuses what is missing."""
        numbers = []
        for name in columns:
            column = part.column(part.schema.names.index(name))
            if column.null_count:
                row = done + int(np.asarray(column.is_null()).argmax()) + 1
                what = f"{self.path}: row {row}, column '{name}' is empty"
                raise ConfigError(f"{what}: remove the row, fill it in, or leave out the column")
            numbers.append(column.cast("float64", safe=False).to_numpy(zero_copy_only=False))
        if label is None:
            return Batch(numbers, None)
        texts = part.column(part.schema.names.index(label)).cast("string").fill_null("")
        return Batch(numbers, texts.to_numpy(zero_copy_only=False))


class Text(ArrowSource):
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
            names = list(self._parts().schema.names)
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

    def _parts(self, columns: Sequence[str] = (), label: str | None = None) -> Any:
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

    @contextmanager
    def _sentences(self) -> Iterator[None]:
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
                what = f"row {row}, column '{self.names[int(found[1])]}' holds '{found[2][:40]}', no number"
                raise self.unusable(what) from error
            if "UTF8" in text:
                raise self._not_utf8() from error
            raise ConfigError(f"{self.path} can't be read as a table: {text}") from error

    def _not_utf8(self) -> ConfigError:
        return ConfigError(f"{self.path} is not UTF-8 text: save it in that encoding")


class Parquet(ArrowSource):
    """An Apache Parquet file."""

    def _open(self) -> None:
        self.arrow, parquet = (need(name, f"reading {self.path.name}") for name in ("pyarrow", "pyarrow.parquet"))
        with self._sentences():
            # Each column has a buffer, and pages of a megabyte or so; pre_buffer would keep all that was read.
            self.file = parquet.ParquetFile(self.path, buffer_size=2**16, pre_buffer=False)
        self.names = list(self.file.schema_arrow.names)

    def _parts(self, columns: Sequence[str], label: str | None) -> Iterator[Any]:
        types = self.arrow.types
        for name in columns:
            kind = self.file.schema_arrow.field(name).type
            if not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
                raise self.unusable(f"column '{name}' holds {kind} and no numbers")
        return self.file.iter_batches(at_once(len(columns)), columns=[*columns, *([label] if label else [])])

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except (self.arrow.ArrowInvalid, self.arrow.ArrowNotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # without a number, Arrow's of a damaged page
                raise
            raise ConfigError(f"{self.path} can't be read as parquet: {' '.join(str(error).split())}") from error


class Arrays(Source):
    """NumPy arrays: one, (rows, columns) or (rows,), in an npy file, or several by name in an npz file.

    The columns of an array called k are k1, k2, …; in an npz file, one of a single dimension is the column k. The array
    of an npy file is x. An npz file is read whole.
    """

    def _open(self) -> None:
        try:
            loaded = np.load(self.path, mmap_mode="r", allow_pickle=False)
            named = not isinstance(loaded, np.ndarray)
            arrays = {key: np.asarray(loaded[key]) for key in loaded.files} if named else {"x": loaded}
        except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            objects = search("Object arrays|Python objects", str(error))
            reason = "it holds Python objects" if objects else "it is damaged, or another format"
            raise ConfigError(f"{self.path} can't be read as an array of numbers: {reason}") from error
        self.numbered = not named or (len(arrays) == 1 and next(iter(arrays.values())).ndim == 2)
        self.columns: dict[str, np.ndarray] = {}
        for key, array in arrays.items():
            if array.ndim not in (1, 2):
                raise ConfigError(f"{self.path}: {key} is an array of shape {array.shape}, and not (rows, columns)")
            parts = array.T if array.ndim == 2 else [array]
            alone = named and array.ndim == 1
            names = [key] if alone else [f"{key}{k + 1}" for k in range(len(parts))]
            self.columns.update(zip(names, parts, strict=True))
            self.names += names
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ConfigError(
                f"{self.path} holds columns of different lengths: {listed(f'{n} {k}' for n, k in lengths.items())}"
            )

    def batches(self, columns: Sequence[str], label: str | None) -> Iterator[Batch]:
        for name in columns:
            if self.columns[name].dtype.kind not in "iuf":
                raise self.unusable(f"column '{name}' holds {self.columns[name].dtype} and no numbers")
        size = at_once(len(columns))
        for start in range(0, len(self.columns[columns[0]]), size):
            rows = slice(start, start + size)
            labels = None if label is None else self.columns[label][rows].astype(str)
            yield Batch([np.asarray(self.columns[name][rows], dtype=np.float64) for name in columns], labels)


#: What is read, by the ending of the file's name.
ENDINGS: dict[str, type[Source]] = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt"), Text),
    **dict.fromkeys((".parquet", ".pq"), Parquet),
    **dict.fromkeys((".npy", ".npz"), Arrays),
}


def open_source(path: Path, delimiter: str | None = None, header: bool | Literal["auto"] = "auto") -> Source:
    """The file at `path`, by its ending.

    Raises:
        ConfigError: It is not there, or of no such kind.
    """
    if not path.is_file():
        near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
        raise ConfigError(f"there is no file {path}{near}")
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"{path} can't be read: its ending should be one of {', '.join(ENDINGS)}")
    if path.stat().st_size == 0:
        raise ConfigError(f"{path} is empty")
    try:
        source = ENDINGS[path.suffix.lower()](path, delimiter, header)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror or error}") from error
    seen: set[str] = set()
    for name in source.names:
        if name in seen:
            raise ConfigError(f"{path} has two columns '{name}': rename one")
        seen.add(name)
    if not seen:
        raise ConfigError(f"{path} has no columns")
    return source


def is_number(text: str) -> bool:
    """Whether a text stands for a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
