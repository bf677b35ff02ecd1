"""What is printed: on a terminal, into a pipe or a file, in whatever encoding, and where nobody reads it."""

from __future__ import annotations

import codecs
import os
import sys
from contextlib import suppress

from .text import visible

__all__ = ["mute", "settle_streams", "tell"]

#: What to print for a sign that the encoding of a stream lacks.
PLAIN = {
    "±": "+/-", "−": "-", "–": "-", "×": "x", "÷": "/", "≤": "<=", "≥": ">=", "≈": "~", "→": "->", "←": "<-",
    "…": "...", "─": "-", "·": ".", "∈": "in", "⁻": "^-", "¹": "1",
    "κ": "kappa", "\N{COMBINING CIRCUMFLEX ACCENT}": "-hat",
}  # fmt: skip


def settle_streams() -> None:
    """Make stdout and stderr take all that is printed: signs that their encoding lacks as others, and what goes to a
    stream that was closed before the program began to nowhere.
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
