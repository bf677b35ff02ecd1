"""One writer a run directory: a lock that the operating system takes from a process that ends, however it ends.

Whoever trains holds it from the first file to the last; whoever evaluates holds it while it writes. It holds between
machines where their common file system has locks (NFS 4, Lustre with flock).
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import RunError
from ..io.files import inside, writing
from ..io.terminal import tell

__all__ = ["LOCK", "Busy", "alone", "busy"]

#: The lock of a run directory.
LOCK = ".lock"
#: Seconds to wait for whoever only looks whether somebody is there.
PATIENCE = 2.0
#: What a file system says that has no locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
#: The directories where a thread of this process is alone, each with the thread.
_held: set[tuple[Path, int]] = set()


class Busy(RunError):
    """Another process is at work in a run directory."""


@contextmanager
def alone(directory: Path, wait: bool = False) -> Iterator[None]:
    """Inside, no other process is; the same one may enter again. The directory is made if it is not there.

    Arguments:
        directory: The run directory.
        wait: Wait for another process to end.

    Raises:
        Busy: Another process is at work in it.
        RunError: The directory can't be written to.
    """
    key = (directory.resolve(), threading.get_ident())
    if key in _held:
        yield
        return
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    lock = FileLock(inside(directory / LOCK, directory))
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=-1 if wait else PATIENCE)
        except Timeout:  # an OSError too
            raise Busy(f"another process is at work in {directory}: wait until it has ended, or stop it") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            what = "where nothing keeps a second process from writing to the same run"
            tell(f"the file system of {directory} has no locks, {what}")
    _held.add(key)
    try:
        yield
    finally:
        _held.remove(key)
        with suppress(OSError):
            if [entry.name for entry in directory.iterdir()] == [LOCK]:  # nothing was done
                (directory / LOCK).unlink()
                for path in missing:
                    path.rmdir()
        lock.release()


def busy(directory: Path) -> bool | None:
    """Whether a process is at work in a run directory; None if that can't be told, as of runs without a lock."""
    if (directory / LOCK).is_symlink() or not (directory / LOCK).is_file():
        return None
    try:
        with FileLock(directory / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return None
