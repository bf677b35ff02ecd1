"""Tables as NumPy arrays: npy, which is mapped and read in pieces, and npz, which is read whole."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from re import search

import numpy as np

from ...errors import ConfigError
from .source import Batch, Source, at_once, listed

__all__ = ["Arrays"]


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
                raise self.no_numbers(name, self.columns[name].dtype)
        size = at_once(len(columns))
        for start in range(0, len(self.columns[columns[0]]), size):
            rows = slice(start, start + size)
            labels = None if label is None else self.columns[label][rows].astype(str)
            yield Batch([np.asarray(self.columns[name][rows], dtype=np.float64) for name in columns], labels)
