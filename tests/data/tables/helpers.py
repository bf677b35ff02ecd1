"""What tests of tables share: a file as a dataset, or as its columns, and the sentence for one that can't be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cifrun.config.schema import check
from cifrun.data.base import Data
from cifrun.data.checks import check_data
from cifrun.data.tables.base import File
from cifrun.data.tables.formats import open_source
from cifrun.data.tables.reading import Table, read
from cifrun.data.tables.source import Form
from cifrun.errors import ConfigError

#: Five good rows, and many, without a header.
GOOD = "".join(f"{k},{k * k}\n" for k in range(1, 6))
LONG = "".join(f"{k},{k * k}\n" for k in range(300_000))


def load(path: Path, **settings: Any) -> Data:
    """The splits of `dataset=file` with these settings."""
    return check_data(check(File, {"name": "file", "path": str(path), **settings}, "dataset").load(), "file")


def table(path: Path, columns: Sequence[str] | None = None, **options: Any) -> Table:
    """All columns of a file, or these."""
    source = open_source(path, Form(**options))
    return read(source, source.names if columns is None else columns)


def refusal(path: Path, content: bytes | str | None = None, **options: Any) -> str:
    """The sentence with which a file is refused, after this content was written to it."""
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as error:
        table(path, **options)
    assert str(path) in str(error.value) or "delimiter" in options
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)
