"""What is printed: on a terminal, into a pipe or a file, in whatever encoding, and where nobody reads it."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .text import visible

__all__ = ["mute", "not_printed", "settle_streams", "tell"]

#: What to print for a sign that the encoding of a stream lacks.
PLAIN = {
    "±": "+/-", "−": "-", "–": "-", "×": "x", "÷": "/", "≤": "<=", "≥": ">=", "≈": "~", "→": "->", "←": "<-",
    "…": "...", "─": "-", "·": ".", "∈": "in", "⁻": "^-", "¹": "1",
    "κ": "kappa", "\N{COMBINING CIRCUMFLEX ACCENT}": "-hat",
}  # fmt: skip


class Patient:
    """A stream that takes what is printed though it can't be written, as on a full disk: no reason to lose the work.

    Arguments:
        stream: Where it goes, as long as it can.

    Attributes:
        error: Why not all of it went there; None if it did.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text; its length."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Bring what was written to where it goes."""
        self._try(self._stream.flush)

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except BrokenPipeError:
            raise
        except OSError as error:
            self.error = self.error or error
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())  # what waits in the buffer goes there
            with suppress(OSError):
                self._stream.flush()


def not_printed() -> OSError | None:
    """Why not all of what was printed on stdout so far went there; None if it did."""
    if sys.stdout is None:
        return None
    sys.stdout.flush()
    return sys.stdout.error if isinstance(sys.stdout, Patient) else None


def settle_streams() -> None:
    """Make stdout and stderr take all that is printed: signs that their encoding lacks as others, and what can't be
    written, or goes to a stream that was closed before the program began, to nowhere.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # else the next file that is opened would be stdout
            os.open(os.devnull, os.O_RDWR)
    codecs.register_error("cifrun.plain", _plain)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (for as long as the process is)
        elif hasattr(stream, "reconfigure") and (stream.encoding or "").lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="cifrun.plain")
        if stream is not None and stream is getattr(sys, f"__{name}__"):  # and not what a test or a notebook put there
            setattr(sys, name, Patient(stream))


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


def mute() -> None:
    """Print to nowhere from here on: for when nobody reads on, as in `cifrun list | head -3`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(sentence: str) -> None:
    """Say something on stderr; what a file has put into it moves no cursor. Where that can't be said, work goes on."""
    with suppress(OSError):
        print(f"cifrun: {visible(sentence, keep=chr(10))}", file=sys.stderr)
