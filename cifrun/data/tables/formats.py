"""Which formats of a table are read, by the ending of the file's name: csv, tsv, parquet, npy or npz."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ...errors import ConfigError, did_you_mean
from .arrays import Arrays
from .parquet import Parquet
from .source import Source
from .text import Text

__all__ = ["ENDINGS", "open_source"]

#: What is read, by the ending of the file's name.
ENDINGS: dict[str, type[Source]] = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt"), Text),
    **dict.fromkeys((".parquet", ".pq"), Parquet),
    **dict.fromkeys((".npy", ".npz"), Arrays),
}


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
