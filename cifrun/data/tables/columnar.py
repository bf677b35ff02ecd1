"""Apache Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...errors import ConfigError
from ...io.optional import need
from .arrow import ArrowSource
from .source import at_once

__all__ = ["Parquet"]

#: Bytes of a file whose columns are read whole.
SMALL = 2**26


class Parquet(ArrowSource):
    """An Apache Parquet file. Its index, if pandas wrote one along, is no data unless it is asked for."""

    def _open(self) -> None:
        self.arrow, self._parquet = (need(name, f"reading {self.path.name}") for name in ("pyarrow", "pyarrow.parquet"))
        with self._sentences():
            file = self._file()
            self._schema = file.schema_arrow  # made anew each time that it is asked for
            file.close()
        self.names = list(self._schema.names)
        self.hidden = _index(self._schema) & set(self.names)
        if self.hidden:
            self.aside["the index that pandas wrote along"] = sorted(self.hidden)

    def _file(self) -> Any:
        # Of a large file, each column has a buffer, and pages of a megabyte or so. Of a small one, a column is read
        # whole: Arrow makes a buffer as large as a page says that it is. pre_buffer would keep all that was read.
        buffer = 0 if self.path.stat().st_size <= SMALL else 2**16
        return self._parquet.ParquetFile(self.path, buffer_size=buffer, pre_buffer=False)

    def _parts(self, columns: Sequence[int], label: int | None) -> Iterator[Any]:
        types = self.arrow.types
        usable = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
        for k in columns:
            kind = self._schema.field(k).type
            if not any(test(kind) for test in usable):
                raise self.unusable(f"column '{self.names[k]}' holds {kind} and no numbers", self.names[k])
        wanted = [*columns, *([] if label is None else [label])]
        inside = sorted(set(wanted))
        order = {k: place for place, k in enumerate(inside)}
        file = self._file()
        with file:
            for part in file.iter_batches(at_once(len(columns)), columns=[self.names[k] for k in inside]):
                yield part.select([order[k] for k in wanted])

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except MemoryError as error:
            raise ConfigError(f"{self.path} can't be read: a page of it does not fit into memory") from error
        except (self.arrow.ArrowException, ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # without a number, Arrow's of a damaged page
                raise
            raise ConfigError(f"{self.path} can't be read as parquet: {' '.join(str(error).split())}") from error


def _index(schema: Any) -> set[str]:
    """The columns that are pandas' index, by what it noted in the file."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        return {name for name in noted.get("index_columns", ()) if isinstance(name, str)}
    except (ValueError, AttributeError, TypeError):  # another program's note
        return set()
