"""NumPy's arrays, npy and npz.

What a file says of an array is compared with the bytes that it holds before any memory is taken.
"""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from shutil import copyfileobj

import numpy as np

from ...errors import ConfigError
from ..npy import DEFLATED, Described, describe
from ..regular import open_regular
from .reading import scratch
from .source import Batch, Source, at_once, listed, typed

__all__ = ["Arrays"]


class Arrays(Source):
    """NumPy arrays: one, (rows, columns) or (rows,), in an npy file, or several by name in an npz file.

    The columns of an array called k are k1, k2, …; in an npz file, one of a single dimension is the column k. The array
    of an npy file is x. Of an npz file, only what is asked for is unpacked, to a temporary file.

    In an npz file, arrays that are no columns, as of three dimensions, are left aside. So are those of other lengths,
    where one array alone has two dimensions: it is the table.
    """

    def _open(self) -> None:
        with self._sentences():
            self._named = self.path.suffix.lower() == ".npz"
            found = self._archived() if self._named else {"x": self._described(None)}
        self._arrays = self._columns_of(found)
        self.numbered = not self._named or (len(found) == 1 and len(next(iter(found.values())).shape) == 2)
        self._from: dict[str, tuple[str, int]] = {}
        for key, array in self._arrays.items():
            alone = self._named and len(array.shape) == 1
            width = 1 if len(array.shape) == 1 else array.shape[1]
            names = [key] if alone else [f"{key}{k + 1}" for k in range(width)]
            self._from.update((name, (key, k)) for k, name in enumerate(names))
            self.names += names
        self._hide_other_lengths()

    def _archived(self) -> dict[str, Described]:
        with open_regular(self.path) as stream, zipfile.ZipFile(stream) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            return {entry.filename[:-4]: self._described(archive, entry) for entry in entries}

    def _described(self, archive: zipfile.ZipFile | None, entry: zipfile.ZipInfo | None = None) -> Described:
        """What the file, or one entry of it, says of its array; of objects, an array of no dimensions."""
        if archive is None or entry is None:
            with open_regular(self.path) as stream:
                return describe(stream, self.path.stat().st_size)
        if entry.file_size > DEFLATED * (entry.compress_size + 1):
            raise ValueError(f"{entry.filename} can't be as large as it says")
        with archive.open(entry) as packed:
            try:
                return describe(packed, entry.file_size)
            except ValueError as error:
                if "Python objects" not in str(error):
                    raise
                return Described((), False, np.dtype(object), 0)

    def _columns_of(self, found: dict[str, Described]) -> dict[str, Described]:
        """The arrays that may be columns."""
        usable = {key: array for key, array in found.items() if len(array.shape) in (1, 2)}
        if not usable:
            for key, array in found.items():
                if array.dtype.hasobject:
                    raise ConfigError(f"{self.path} can't be read as an array of numbers: it holds Python objects")
                raise ConfigError(f"{self.path}: {key} is an array of shape {array.shape}, and not (rows, columns)")
        full = {key: array for key, array in usable.items() if 0 not in array.shape}
        if not full:
            no_rows = any(array.shape[0] == 0 for array in usable.values())
            raise ConfigError(f"{self.path} has no {'rows' if no_rows else 'columns'}")
        usable = full
        if len(usable) < len(found):
            self.aside["no columns of numbers"] = [key for key in found if key not in usable]
        return usable

    def _hide_other_lengths(self) -> None:
        """Where lengths differ, the only array of two dimensions has the rows, and all others of its length."""
        if len({array.shape[0] for array in self._arrays.values()}) > 1:
            tables = [array for array in self._arrays.values() if len(array.shape) == 2]
            if len(tables) == 1:
                others = {key for key, array in self._arrays.items() if array.shape[0] != tables[0].shape[0]}
                self.hidden = {name for name, (key, _) in self._from.items() if key in others}
                self.aside["of other lengths than the table"] = sorted(others)

    def batches(self, columns: Sequence[str], label: str | None) -> Iterator[Batch]:
        keys = [self._from[name] for name in columns]
        wanted = {key: None for key, _ in keys} | ({} if label is None else {self._from[label][0]: None})
        for name, (key, _) in zip(columns, keys, strict=True):
            if self._arrays[key].dtype.kind not in "iufb":
                raise self.unusable(f"column '{name}' holds {self._arrays[key].dtype} and no numbers", name)
        lengths = {key: self._arrays[key].shape[0] for key in wanted}
        if len(set(lengths.values())) > 1:
            several = listed(f"{key} {length}" for key, length in lengths.items())
            (most, _), *_ = Counter(lengths.values()).most_common(1)
            same = [name for name, (key, _) in self._from.items() if self._arrays[key].shape[0] == most]
            raise ConfigError(f"{self.path} holds columns of different lengths: {several}: name some, {typed(same)}")
        with self._sentences():
            arrays = {key: self._mapped(key) for key in wanted}
        size, count = at_once(len(columns)), next(iter(lengths.values()))
        for start in range(0, count, size):
            rows = slice(start, start + size)
            labels = None if label is None else self._column(arrays, *self._from[label])[rows].astype(str)
            parts = [np.asarray(self._column(arrays, *key)[rows], dtype=np.float64) for key in keys]
            yield Batch(parts, labels)

    @staticmethod
    def _column(arrays: dict[str, np.ndarray], key: str, k: int) -> np.ndarray:
        return arrays[key] if arrays[key].ndim == 1 else arrays[key][:, k]

    def _mapped(self, key: str) -> np.ndarray:
        """One of the arrays, mapped from the file, or from a temporary one where it is unpacked."""
        array = self._arrays[key]
        if not self._named:
            with open_regular(self.path) as stream:
                return array.map(stream)
        with open_regular(self.path) as file, zipfile.ZipFile(file) as archive, scratch(str(self.path)) as copy:
            with archive.open(f"{key}.npy") as packed:
                copyfileobj(packed, copy, 2**20)
            copy.flush()
            return array.map(copy)

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
            objects = "Python objects" in str(error)
            reason = "it holds Python objects" if objects else "it is damaged, or another format"
            raise ConfigError(f"{self.path} can't be read as an array of numbers: {reason}") from error
        except MemoryError as error:
            raise ConfigError(f"{self.path} can't be read: it does not fit into memory") from error
