"""Files that are really files: a pipe or a device has no size, may never end, and may keep who opens it waiting."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from ..errors import ConfigError, did_you_mean

__all__ = ["check_regular", "open_regular"]

#: What else a path may name, and what to do about it.
_KINDS = {
    stat.S_IFDIR: "is a folder",
    stat.S_IFIFO: "is a pipe: write what comes out of it to a file first",
    stat.S_IFSOCK: "is a socket: write what comes out of it to a file first",
    stat.S_IFCHR: "is a device: copy what it holds to a file first",
    stat.S_IFBLK: "is a device: copy what it holds to a file first",
}


def check_regular(path: Path) -> int:
    """The size of a file in bytes; links are followed.

    Raises:
        ConfigError: There is none at `path`, or what is there is no regular file, or can't be looked at.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError as error:
        near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
        raise ConfigError(f"there is no file {path}{near}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"there is no file {path}: {getattr(error, 'strerror', None) or error}") from error
    _check(path, found.st_mode)
    return found.st_size


def open_regular(path: Path) -> BinaryIO:
    """The file at `path`, opened to be read; nothing waits if a pipe has taken its place.

    Raises:
        ConfigError: It is no regular file, or can't be opened.
    """
    check_regular(path)
    try:
        place = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror or error}") from error
    stream = os.fdopen(place, "rb")
    try:
        _check(path, os.fstat(place).st_mode)
    except ConfigError:
        stream.close()
        raise
    return stream


def _check(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "is of another kind")
        raise ConfigError(f"there is no file {path}: what is there {kind}")
