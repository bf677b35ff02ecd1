"""Files that are whole or not there, written beside their place, flushed to disk, and renamed over it; where those go
that stay, and which file is the same as before.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import RunError

__all__ = ["cache", "fingerprint", "inside", "is_there", "left_over", "overwrite", "read_text", "replacing", "writing"]

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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with writing(path):
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # never one that is there already
        mode = temporary.stat().st_mode
        try:
            yield temporary
            os.chmod(temporary, stat.S_IMODE(mode))  # a library may have put a file of its own there
            with open(temporary, "rb+") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def left_over(folder: Path) -> list[Path]:
    """The temporary files in a folder, of processes that were killed if nobody writes there: ours and safetensors'."""
    return sorted([*folder.glob(".*.tmp"), *folder.glob(".tmp??????")])


def overwrite(path: Path, text: str) -> None:
    """Put a short text in the place of another where no block is left for a new file: in the blocks of the old one.

    Raises:
        OSError: They don't hold it, or can't be written.
    """
    content = text.encode()
    with open(path, "r+b") as stream:
        blocks = os.fstat(stream.fileno()).st_blocks * 512
        if len(content) > blocks:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        stream.write(content)
        stream.truncate()


def is_there(path: Path) -> bool:
    """Whether there is something of that name, also such that can't be looked at."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def inside(path: Path, root: Path) -> Path:
    """`path`, of which no part below the folder `root` leads elsewhere: a plain file, a folder, or nothing yet.

    Raises:
        RunError: It is a symbolic link, or below one; or neither a file nor a folder.
    """
    for part in (path, *path.parents):
        if part == root:
            break
        try:
            kind = part.lstat().st_mode
        except OSError:  # whoever opens it is told
            continue
        if stat.S_ISLNK(kind):
            raise RunError(f"{part} is a symbolic link, which is not followed: put what it leads to in its place")
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise RunError(f"{part} is neither a file nor a folder")
    return path


def read_text(path: Path, most: int) -> str:
    """A file of UTF-8 text.

    Raises:
        ValueError: It is longer than `most` bytes, or not UTF-8.
        OSError: It can't be read.
    """
    with open(path, "rb") as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content.decode()


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
