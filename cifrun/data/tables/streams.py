"""The text of a table as a stream of bytes: unpacked, and with one sign between columns.

A file is unpacked while it is read, so that it takes no more memory than its reader asks for.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...io.optional import need
from ..regular import open_regular

__all__ = ["LONGEST", "PACKED", "Blanks", "open_text", "unpacked_name"]

#: Bytes of a line at most.
LONGEST = 2**26
#: What unpacks a file, by the last ending of its name; the words are Arrow's.
PACKED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}


def unpacked_name(path: Path) -> Path:
    """The path without the ending that says how a file is packed."""
    return path.with_suffix("") if path.suffix.lower() in PACKED else path


def open_text(path: Path) -> Any:
    """The bytes of a text, unpacked, as a file of Arrow's.

    Raises:
        ConfigError: It is no regular file, can't be opened, or Arrow lacks what unpacks it.
    """
    arrow = need("pyarrow", f"reading {path.name}")
    stream = arrow.PythonFile(open_regular(path), "r")
    packed = PACKED.get(path.suffix.lower())
    if packed is None:
        return stream
    if not arrow.Codec.is_available(packed):
        raise ConfigError(f"{path} can't be read, as this pyarrow has no {packed}: unpack it first")
    return arrow.CompressedInputStream(stream, packed)


class Blanks:
    """A text whose columns are aligned by blanks, with a tab in place of each run of blanks and tabs.

    Arguments:
        stream: The bytes of the text, from the beginning of a line; it is closed with this.
        path: What to call the file in a sentence.
    """

    def __init__(self, stream: Any, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._line = b""  # the beginning of a line whose end is still to come
        self._ready = b""

    @property
    def closed(self) -> bool:
        return bool(self._stream.closed)

    def close(self) -> None:
        self._stream.close()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; none at the end."""
        limit = 2**20 if size is None or size < 0 else size
        while not self._ready:
            more = self._stream.read(max(2**16, limit))
            if not more:
                self._ready, self._line = _tabbed(self._line), b""
                break
            self._line += more
            if len(self._line) > LONGEST:
                raise ConfigError(f"{self._path}: a line is longer than {LONGEST:,} bytes")
            end = self._line.rfind(b"\n") + 1
            self._ready, self._line = _tabbed(self._line[:end]), self._line[end:]
        ready, self._ready = self._ready[:limit], self._ready[limit:]
        return ready


_EDGES = re.compile(rb"[ \t]*(\r?\n)[ \t]*")
_RUNS = re.compile(rb'("[^"]*")|[ \t]+')


def _tabbed(lines: bytes) -> bytes:
    """Whole lines, with a tab for each run of blanks between columns, and none at the edges."""
    lines = _EDGES.sub(rb"\1", lines.strip(b" \t"))
    if b'"' not in lines:
        return re.sub(rb"[ \t]+", b"\t", lines)
    return _RUNS.sub(lambda found: found[1] or b"\t", lines)
