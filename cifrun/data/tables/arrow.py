"""What text and Parquet have in common: Arrow reads them, in its record batches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from .source import Batch, Source

__all__ = ["ArrowSource"]


class ArrowSource(Source):
    """A file that Arrow reads."""

    def batches(self, columns: Sequence[str], label: str | None) -> Iterator[Batch]:
        places = [self.places[name] for name in columns]
        mark = None if label is None else self.places[label]
        done = 0
        with self._sentences():
            for part in self._parts(places, mark):
                yield self._batch(part, columns, label is not None, done)
                done += len(part)

    @abstractmethod
    def _parts(self, columns: Sequence[int], label: int | None) -> Iterator[Any]:
        """Arrow's record batches of the columns in these places, in this order, the labels last."""

    @abstractmethod
    def _sentences(self) -> AbstractContextManager[None]:
        """Inside, Arrow's messages come in our words."""

    def _batch(self, part: Any, columns: Sequence[str], labelled: bool, done: int) -> Batch:
        """One of Arrow's record batches, after `done` rows, as arrays; refuses what is missing, or makes it NaN."""
        numbers = []
        arrays = part.columns
        for name, column in zip(columns, arrays, strict=False):
            if column.null_count and self.form.missing == "refuse":
                raise self.empty(done + int(np.asarray(column.is_null()).argmax()) + 1, name)
            if str(column.type) == "bool":
                column = column.cast("uint8")
            numbers.append(column.cast("float64", safe=False).to_numpy(zero_copy_only=False))
        if not labelled:
            return Batch(numbers, None)
        texts = arrays[-1].cast("string").fill_null("")
        return Batch(numbers, texts.to_numpy(zero_copy_only=False))
