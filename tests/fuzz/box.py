"""A folder in which a case lives: what a command may touch, what it must not, and what can be said of how it ended."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import stat
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .runs import shown
from .server import Order, Server

#: Bits of inotify: somebody opened a file, or changed one.
OPENED, MODIFIED, NONBLOCKING = 0x20, 0x2 | 0x100 | 0x200, 0x800
#: Characters that a terminal obeys.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it printed."""

    words: str
    code: int | None
    out: str
    err: str

    def faults(self, codes: Collection[int] = (0, 2)) -> list[str]:
        """What a command must never do, whatever it is given."""
        found = []
        if self.code is None:
            found.append("it does not end")
        elif self.code not in codes:
            found.append(f"it ended with {self.code}")
        if "Traceback" in self.out + self.err:
            found.append("a traceback")
        elif self.code == 2:
            lines = [line for line in self.err.splitlines() if line.strip()]
            if not any(line.startswith("cifrun: ") for line in lines):
                found.append("no sentence")
            if len(lines) > 4:  # of a multirun: what it launches, the job, its sentence, and what became of all
                found.append(f"{len(lines)} lines")
        if CONTROL.search(self.out + self.err):
            found.append("control characters")
        return [f"cifrun {self.words}: {fault}\n{self.out[-500:]}{self.err[-2500:]}" for fault in found]


class Box:
    """Folders: `work`, where commands start; `outside`, whose files must not even be opened; a home, and one for
    temporary files.

    Arguments:
        root: An empty folder.
        server: What does the commands.
    """

    def __init__(self, root: Path, server: Server) -> None:
        self.root, self.server = root, server
        self.work, self.outside = root / "work", root / "outside"
        self.home, self.temporary = root / "home", root / "tmp"
        for folder in (self.work, self.outside, self.home, self.temporary):
            folder.mkdir()
        self._watch = -1

    def do(self, *words: str, verb: str = "main", **more: Any) -> Outcome:
        """A command, as typed; `more` as of `Order`."""
        files = self.root / "out", self.root / "err"
        environment = {"HOME": str(self.home), "TMPDIR": str(self.temporary), "CIFRUN_DATA": str(self.home / "data")}
        out, err = map(str, files)
        code = self.server.do(Order(words, str(self.work), environment, verb=verb, out=out, err=err, **more))
        texts = [file.read_text(errors="replace") if file.exists() else "" for file in files]
        for file in files:
            file.unlink(missing_ok=True)
        return Outcome(shown(words if verb == "main" else (verb, *words)), code, *texts)

    def state(self) -> dict[str, tuple[Any, ...]]:
        """Each file and folder here: its kind, and of a file what it holds."""
        return {str(path.relative_to(self.root)): _state(path) for path in walk(self.root)}

    def changed(self, before: dict[str, tuple[Any, ...]], *allowed: Path) -> list[str]:
        """What is there that was not, or has changed, or is gone; but for what is in the folders `allowed`."""
        after = self.state()
        free = tuple(str(path.relative_to(self.root)) for path in allowed)
        names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        return [f"changed: {name}" for name in names if not any(name == f or name.startswith(f"{f}/") for f in free)]

    def watch(self) -> None:
        """From here on, remember who opens a file of `outside`."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._watch = libc.inotify_init1(NONBLOCKING)
        for folder in (self.outside, *(path for path in walk(self.outside) if path.is_dir() and not path.is_symlink())):
            if libc.inotify_add_watch(self._watch, os.fsencode(folder), OPENED | MODIFIED) < 0:
                raise OSError(ctypes.get_errno(), "inotify")

    def opened(self) -> list[str]:
        """The files of `outside` that were opened or changed since `watch`."""
        try:
            events = os.read(self._watch, 2**16)
        except BlockingIOError:
            events = b""
        finally:
            os.close(self._watch)
        names, place = set(), 0
        while place < len(events):
            _, mask, _, length = struct.unpack_from("iIII", events, place)
            name = events[place + 16 : place + 16 + length].rstrip(b"\0").decode(errors="replace")
            if name and not mask & 0x40000000:  # of a file, not of a folder
                names.add(name)
            place += 16 + length
        return [f"opened: outside {name}" for name in sorted(names)]


def walk(folder: Path) -> list[Path]:
    """All that is below a folder, without what symbolic links lead to."""
    found = []
    for parent, folders, files in os.walk(folder):
        found += [Path(parent, name) for name in (*folders, *files)]
    return sorted(found)


def _state(path: Path) -> tuple[Any, ...]:
    kind = path.lstat().st_mode
    if stat.S_ISLNK(kind):
        return "link", os.readlink(path)
    if stat.S_ISREG(kind):
        return "file", kind, hashlib.sha256(path.read_bytes()).hexdigest()
    return "folder" if stat.S_ISDIR(kind) else "other", kind


def none_of(problems: Collection[str], case: str) -> None:
    """Fail with the problems of a case, if it has any. They are added to the file $FUZZ_LOG too, as they are found."""
    if not problems:
        return
    told = "\n".join([case, *problems])
    if "FUZZ_LOG" in os.environ:
        with open(os.environ["FUZZ_LOG"], "a", encoding="utf-8") as stream:
            stream.write(f"{told}\n\n")
    pytest.fail(told, pytrace=False)
