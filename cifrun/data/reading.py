"""A user's table, read once from front to back: csv, tsv, parquet, npy or npz, in pieces, into a file of float32.

    Source           a file of one format: the names of its columns, and its rows in batches of float64
    read             checks every number and writes it down; the result is a memory-mapped array, (rows, columns)

Nothing is dropped or filled in: what is no finite number is refused with its row and column. Rows count from 1, below
the header. Arrow reads text and parquet, and tells the row of what it can't read.
"""

from __future__ import annotations

import math
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from re import search
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from ..errors import ConfigError, RunError, did_you_mean

__all__ = ["ENDINGS", "Source", "Table", "library", "open_source", "read", "scratch"]

#: Rows that are in memory at once; of text, about as many as fit into Arrow's blocks of a megabyte.
ROWS = 65_536


class Table(NamedTuple):
    """What `read` makes of a file: columns' names, numbers (rows, columns), and the code of each row's label."""

    columns: tuple[str, ...]
    values: np.ndarray  # float32, in a file
    labels: np.ndarray | None  # uint8


class Batch(NamedTuple):
    """Some rows: one array of numbers a column, float64, and the texts of the label column."""

    columns: list[np.ndarray]
    labels: np.ndarray | None


def library(name: str, what: str) -> Any:
    """A module that is imported when it is first needed. Raises `ConfigError` if it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        package = {"sklearn": "scikit-learn"}.get(name.partition(".")[0], name.partition(".")[0])
        raise ConfigError(f"{what} needs {package}, which is not installed: pip install {package}") from error


# --- formats ----------------------------------------------------------------------------------------------------------


class Source(ABC):
    """One file of one format.

    Attributes:
        names: Of all its columns; unique.
        numbered: Whether they are ours, x1 … xD, because the format has none.
    """

    names: list[str]
    numbered = False

    def __init__(self, path: Path, delimiter: str | None = None, header: bool | Literal["auto"] = "auto") -> None:
        self.path = path

    @abstractmethod
    def batches(self, columns: Sequence[str], label: str | None) -> Iterator[Batch]:
        """The rows in order, of these columns."""

    def no_numbers(self, column: str, kind: object) -> ConfigError:
        """The sentence for a column of another type."""
        return ConfigError(f"{self.path}: column '{column}' holds {kind} and no numbers: {self._hint()}")

    def no_number(self, row: int, column: str, value: object) -> ConfigError:
        """The sentence for a value that is not a finite number."""
        return ConfigError(f"{self.path}: row {row}, column '{column}' holds '{value}', no number: {self._hint()}")

    def _hint(self) -> str:
        return f"mend it, or name the columns to use, dataset.columns=[…], of {_list(self.names)}"

    def missing(self, row: int, column: str) -> ConfigError:
        """The sentence for a number that is not there."""
        return ConfigError(
            f"{self.path}: row {row}, column '{column}' is empty: remove the row, fill it in, or leave out the column"
        )


class Text(Source):
    """Comma- or tab-separated text in UTF-8."""

    def __init__(self, path: Path, delimiter: str | None = None, header: bool | Literal["auto"] = "auto") -> None:
        super().__init__(path)
        self.csv = library("pyarrow.csv", f"reading {path.name}")
        self.delimiter = delimiter or ("\t" if path.suffix.lower() in (".tsv", ".tab") else ",")
        self.skipped = 1
        self.numbered = header is False
        self.names = []
        if header is not False:
            with self._sentences():
                self.names = list(self._open().schema.names)
            if header == "auto" and all(map(_is_number, self.names)):
                raise ConfigError(
                    f"{path}: its first line, {_list(self.names)}, holds nothing but numbers: say "
                    f"dataset.header=false if they are data, or dataset.header=true if they are names"
                )
        else:
            self.skipped = 0
            with self._sentences():
                self.names = [f"x{k + 1}" for k in range(len(self._open().schema.names))]
        if len(self.names) == 1 and (found := search(r"[;\t|,]", self.names[0])):
            raise ConfigError(
                f"{path} has one column, '{self.names[0]}': if '{_shown(found[0])}' separates columns, "
                f"say dataset.delimiter='{_shown(found[0])}'"
            )

    def _open(self, columns: Sequence[str] = (), label: str | None = None) -> Any:
        arrow, csv = library("pyarrow", self.path.name), self.csv
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
            csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
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
            for part in self._open(columns, label):
                yield _arrow_batch(self, part, columns, label, done)
                done += len(part)

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """Arrow's messages in our words."""
        arrow = library("pyarrow", self.path.name)
        try:
            yield
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self.path} is not UTF-8 text: save it in that encoding") from error
        except arrow.ArrowInvalid as error:
            text = " ".join(str(error).split())
            row = (int(found[1]) if (found := search(r"Row #(\d+)", text)) else 1) - self.skipped
            if "Empty CSV" in text:
                raise ConfigError(f"{self.path} is empty") from error
            with open(self.path, "rb") as stream:
                if b"\0" in stream.read(4096):
                    raise ConfigError(f"{self.path} is not UTF-8 text: save it in that encoding") from error
            if found := search(r"Expected (\d+) columns, got (\d+)", text):
                fields = f"{found[2]} field{'s' if found[2] != '1' else ''}"
                raise ConfigError(f"{self.path}: row {row} has {fields}, and those before it {found[1]}") from error
            if found := search(r"CSV column #(\d+):.*invalid value '(.*)'", text):
                raise self.no_number(row, self.names[int(found[1])], found[2][:40]) from error
            if "UTF8" in text:
                raise ConfigError(f"{self.path} is not UTF-8 text: save it in that encoding") from error
            raise ConfigError(f"{self.path} can't be read as a table: {text}") from error


class Parquet(Source):
    """An Apache Parquet file."""

    def __init__(self, path: Path, delimiter: str | None = None, header: bool | Literal["auto"] = "auto") -> None:
        super().__init__(path)
        self.arrow = library("pyarrow", f"reading {path.name}")
        with self._sentences():
            parquet = library("pyarrow.parquet", f"reading {path.name}")
            self.file = parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False)  # true keeps all that was read
        self.names = list(self.file.schema_arrow.names)

    def batches(self, columns: Sequence[str], label: str | None) -> Iterator[Batch]:
        types = self.arrow.types
        for name in columns:
            kind = self.file.schema_arrow.field(name).type
            if not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
                raise self.no_numbers(name, kind)
        done = 0
        with self._sentences():
            for part in self.file.iter_batches(ROWS, columns=[*columns, *([label] if label else [])]):
                yield _arrow_batch(self, part, columns, label, done)
                done += len(part)

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except (self.arrow.ArrowInvalid, self.arrow.ArrowNotImplementedError) as error:
            raise ConfigError(f"{self.path} can't be read as parquet: {' '.join(str(error).split())}") from error
        except OSError as error:  # what Arrow says of a damaged page
            if error.errno is not None:
                raise
            raise ConfigError(f"{self.path} can't be read as parquet: {' '.join(str(error).split())}") from error


class Arrays(Source):
    """NumPy arrays: one, (rows, columns) or (rows,), in an npy file, or several by name in an npz file.

    The columns of an array called k are k1, k2, …, or k where it has one dimension; the array of an npy file is x. An
    npz file is read whole.
    """

    def __init__(self, path: Path, delimiter: str | None = None, header: bool | Literal["auto"] = "auto") -> None:
        super().__init__(path)
        try:
            loaded = np.load(path, mmap_mode="r", allow_pickle=False)
            arrays = {key: loaded[key] for key in loaded.files} if hasattr(loaded, "files") else {"x": loaded}
        except (ValueError, EOFError, KeyError) as error:
            reason = (
                "it holds Python objects"
                if search("Object arrays|Python objects", str(error))
                else "it is damaged, or another format"
            )
            raise ConfigError(f"{path} can't be read as an array of numbers: {reason}") from error
        self.numbered = not hasattr(loaded, "files") or len(arrays) == 1
        self.columns: dict[str, np.ndarray] = {}
        self.names = []
        for key, array in arrays.items():
            if array.ndim not in (1, 2):
                raise ConfigError(f"{path}: {key} is an array of shape {array.shape}, and not (rows, columns)")
            parts = array.T if array.ndim == 2 else [array]
            alone = array.ndim == 1 and hasattr(loaded, "files")
            names = [key] if alone else [f"{key}{k + 1}" for k in range(len(parts))]
            self.columns.update(zip(names, parts, strict=True))
            self.names += names
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ConfigError(
                f"{path} holds columns of different lengths: {_list(f'{n} {k}' for n, k in lengths.items())}"
            )

    def batches(self, columns: Sequence[str], label: str | None) -> Iterator[Batch]:
        for name in columns:
            if self.columns[name].dtype.kind not in "iuf":
                raise self.no_numbers(name, self.columns[name].dtype)
        for start in range(0, len(self.columns[columns[0]]), ROWS):
            rows = slice(start, start + ROWS)
            labels = None if label is None else self.columns[label][rows].astype(str)
            yield Batch([np.asarray(self.columns[name][rows], dtype=np.float64) for name in columns], labels)


#: What is read, by the ending of the file's name.
ENDINGS: dict[str, type[Source]] = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt"), Text),
    **dict.fromkeys((".parquet", ".pq"), Parquet),
    **dict.fromkeys((".npy", ".npz"), Arrays),
}

#: Texts that stand for a number that is not there.
NULLS = ["", "NA", "N/A", "#N/A", "n/a", "NULL", "null", "None", "-", "?"]


def _arrow_batch(source: Source, part: Any, columns: Sequence[str], label: str | None, done: int) -> Batch:
    """A record batch as arrays; refuses what is missing."""
    numbers = []
    for name in columns:
        column = part.column(part.schema.names.index(name))
        if column.null_count:
            row = int(np.asarray(column.is_null()).argmax())
            raise source.missing(done + row + 1, name)
        numbers.append(column.cast("float64", safe=False).to_numpy(zero_copy_only=False))
    if label is None:
        return Batch(numbers, None)
    texts = part.column(part.schema.names.index(label)).cast("string").fill_null("")
    return Batch(numbers, texts.to_numpy(zero_copy_only=False))


# --- reading ----------------------------------------------------------------------------------------------------------


def open_source(path: Path, delimiter: str | None = None, header: bool | Literal["auto"] = "auto") -> Source:
    """The file at `path`, by its ending. Raises `ConfigError` if it is not there or of no such kind."""
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


def pick(source: Source, wanted: Sequence[str]) -> list[str]:
    """The columns that are asked for, by name, or by number where the file names none."""
    picked = [f"x{name}" if source.numbered and name.isdigit() else name for name in wanted]
    for name in picked:
        if not name.strip():
            raise ConfigError(
                f"column {source.names.index(name) + 1} of {source.path} has no name, as if row numbers had been saved "
                f"along: name it, or the columns to use, dataset.columns=[…], of {_list(filter(None, source.names))}"
            )
        if name not in source.names:
            near = did_you_mean(name, source.names)
            raise ConfigError(f"{source.path} has no column '{name}': it has {_list(source.names)}{near}")
        if picked.count(name) > 1:
            raise ConfigError(f"column '{name}' of {source.path} is asked for twice")
    return picked


def read(
    source: Source, columns: Sequence[str], label: str | None = None, words: Mapping[str, int] | None = None
) -> Table:
    """Read the columns once, check each number, and keep them in a temporary file that is mapped into memory.

    Arguments:
        label: A column of words; `words` says the code of each, and every row must hold one of them.

    Errors:
        ConfigError: a value that is missing, no number, or not finite, with its row and column; a label that is none of
            the words; no rows.
        RunError: there is no room for the temporary file.
    """
    columns = pick(source, columns)
    codes: list[np.ndarray] = []
    count = 0
    with scratch(str(source.path)) as file:
        for numbers, labels in source.batches(columns, label):
            file.write(_single(source, columns, numbers, count).tobytes())
            if labels is not None and label is not None:
                codes.append(_codes(source, label, labels, words or {}, count))
            count += len(numbers[0])
        if count == 0:
            raise ConfigError(f"{source.path} has no rows")
        values = mapped(file, (count, len(columns)))
    return Table(tuple(columns), values, np.concatenate(codes) if codes else None)


@contextmanager
def scratch(origin: str) -> Iterator[IO[bytes]]:
    """A temporary file without a name, in $TMPDIR or the system's place; it is gone when nothing maps it any more."""
    try:
        with tempfile.TemporaryFile(prefix="cifrun-") as file:
            yield file
    except OSError as error:
        what = f"{origin} can't be copied to a temporary file in {tempfile.gettempdir()}: {error.strerror or error}"
        raise RunError(f"{what}; TMPDIR names another place") from error


def mapped(file: IO[bytes], shape: tuple[int, int]) -> np.ndarray:
    """The float32 numbers that were written to `file`, as an array that stays on disk until it is looked at."""
    file.flush()
    return np.memmap(file, np.float32, "r+", shape=shape)


def _single(source: Source, columns: Sequence[str], numbers: Sequence[np.ndarray], done: int) -> np.ndarray:
    """Single precision, (rows, columns). Raises `ConfigError` for the first number that is not finite in it."""
    with np.errstate(over="ignore"):
        single = np.stack(numbers, 1).astype(np.float32)
    if not np.isfinite(single).all():
        row, k = np.argwhere(~np.isfinite(single))[0]
        value = numbers[k][row]
        if math.isfinite(value):
            what = f"holds {value:g}, more than single precision can hold: change its unit"
            raise ConfigError(f"{source.path}: row {done + row + 1}, column '{columns[k]}' {what}")
        raise ConfigError(
            f"{source.path}: row {done + row + 1}, column '{columns[k]}' holds {value}, which is not finite: "
            f"remove the row, fill it in, or leave out the column"
        )
    return single


def _codes(source: Source, label: str, texts: np.ndarray, words: Mapping[str, int], done: int) -> np.ndarray:
    values, inverse = np.unique(texts.astype(str), return_inverse=True)
    for k, value in enumerate(values):
        if value.strip().lower() not in words:
            row = int((inverse == k).argmax())
            raise ConfigError(
                f"{source.path}: row {done + row + 1}, column '{label}' holds '{value}': it should be one of "
                f"{', '.join(words)}"
            )
    table = np.array([words[value.strip().lower()] for value in values], dtype=np.uint8)
    return table[inverse]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(separator: str) -> str:
    return "\\t" if separator == "\t" else separator


def _list(names: Any, most: int = 12) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")
