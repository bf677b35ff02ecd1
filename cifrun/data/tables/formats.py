"""The formats of a table, by the ending of the file's name: csv, tsv, parquet, npy or npz."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConfigError
from ..regular import check_regular
from .arrays import Arrays
from .columnar import Parquet
from .source import Form, Source
from .streams import PACKED, unpacked_name
from .text import Text

__all__ = ["ENDINGS", "open_source"]

#: What is read, by the ending of the file's name.
ENDINGS: dict[str, type[Source]] = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt", ".dat"), Text),
    **dict.fromkeys((".parquet", ".pq"), Parquet),
    **dict.fromkeys((".npy", ".npz"), Arrays),
}


def open_source(path: Path, form: Form = Form()) -> Source:  # noqa: B008 (it can't be changed)
    """The file at `path`, by its ending; text may be packed, .csv.gz.

    Raises:
        ConfigError: It is not there, or of no such kind, or can't be read.
    """
    size, ending = check_regular(path), unpacked_name(path).suffix.lower()
    packed = unpacked_name(path) != path
    if ending not in ENDINGS:
        raise ConfigError(
            f"{path} can't be read: its ending should be one of {', '.join(ENDINGS)}, those of text perhaps with "
            f"{', '.join(PACKED)} behind"
        )
    if packed and ENDINGS[ending] is not Text:
        raise ConfigError(f"{path} can't be read: only text is read from packed files; unpack it first")
    if size == 0:
        raise ConfigError(f"{path} is empty")
    try:
        source = ENDINGS[ending](path, form)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror or error}") from error
    if not source.names:
        raise ConfigError(f"{path} has no columns")
    return source
