"""Files that are whole or not there: written beside their place, flushed to disk, and renamed over it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import RunError

__all__ = ["mute", "replacing", "writing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and is removed when it does not.

    Whoever reads `path` sees the old file or the new one, never half of one, whenever the process or the machine stops.
    Raises `RunError` if the file can't be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            yield temporary
            with open(temporary, "rb+") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, an error of the file system becomes a `RunError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} can't be written: {error.strerror or error}") from error


def mute() -> None:
    """Print to nowhere from here on: for when nobody reads on, as in `cifrun list | head -3`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
