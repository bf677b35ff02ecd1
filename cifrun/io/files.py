"""Files that are whole or not there, written beside their place, flushed to disk, and renamed over it; where those go
that stay, and which file is the same as before.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import RunError

__all__ = ["cache", "fingerprint", "mute", "replacing", "writing"]

#: Of a larger file than `WHOLE` bytes, `fingerprint` looks at `SAMPLES` pieces of `BLOCK` bytes.
WHOLE, SAMPLES, BLOCK = 2**28, 64, 2**20


def cache() -> Path:
    """Where downloads and large tables are kept: $CIFRUN_DATA, else ~/.cache/cifrun."""
    return Path(os.environ.get("CIFRUN_DATA") or Path.home() / ".cache" / "cifrun")


def fingerprint(path: Path) -> str:
    """What tells a file from what it was before: SHA-256 of its size and content, in hexadecimal, wherever it is.

    Up to 256 MiB, all of its content. Beyond, 64 MiB in pieces at equal distances, with both ends, so that it takes no
    longer than that whatever the size: rows that come or go change the size, or, where a format pads or compresses, its
    end. Other values in a few rows of the same length in between may go unseen.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as stream:
        whole, pieces = range(0, size, BLOCK), [k * (size - BLOCK) // (SAMPLES - 1) for k in range(SAMPLES)]
        for start in whole if size <= WHOLE else pieces:
            stream.seek(start)
            digest.update(stream.read(BLOCK))
    return digest.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and is removed when it does not.

    Whoever reads `path` sees the old file or the new one, never half of one, whenever the process or the machine stops.

    Raises:
        RunError: The file can't be written.
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
    """Inside, an error of the file system becomes one that names `path`.

    Raises:
        RunError: It can't be written.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} can't be written: {error.strerror or error}") from error


def mute() -> None:
    """Print to nowhere from here on: for when nobody reads on, as in `cifrun list | head -3`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
