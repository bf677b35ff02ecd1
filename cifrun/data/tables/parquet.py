"""Tables in Apache Parquet: read by Arrow, a piece of a row group at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ...errors import ConfigError
from ...io.optional import need
from .source import Batch, Source, at_once

__all__ = ["Parquet"]


class Parquet(Source):
    """An Apache Parquet file."""

    def _open(self) -> None:
        self.arrow, parquet = (need(name, f"reading {self.path.name}") for name in ("pyarrow", "pyarrow.parquet"))
        with self._sentences():
            # Each column has a buffer, and pages of a megabyte or so; pre_buffer would keep all that was read.
            self.file = parquet.ParquetFile(self.path, buffer_size=2**16, pre_buffer=False)
        self.names = list(self.file.schema_arrow.names)

    def batches(self, columns: Sequence[str], label: str | None) -> Iterator[Batch]:
        types = self.arrow.types
        for name in columns:
            kind = self.file.schema_arrow.field(name).type
            if not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
                raise self.no_numbers(name, kind)
        done = 0
        with self._sentences():
            for part in self.file.iter_batches(at_once(len(columns)), columns=[*columns, *([label] if label else [])]):
                yield self._arrow_batch(part, columns, label, done)
                done += len(part)

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except (self.arrow.ArrowInvalid, self.arrow.ArrowNotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # without a number, Arrow's of a damaged page
                raise
            raise ConfigError(f"{self.path} can't be read as parquet: {' '.join(str(error).split())}") from error
