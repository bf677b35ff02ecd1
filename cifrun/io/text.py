"""Plain text for the terminal: tables, numbers written with their standard errors, and what others wrote, harmless."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

__all__ = ["MINUS", "shortened", "table", "visible", "with_error"]

#: Share of a value below which its error is beyond the digits of a number.
EPSILON = 1e-15
#: Signs of a word that are shown at most, as the digits of a number, or a path.
WORD = 300
GAP = "  "
MINUS = "\N{MINUS SIGN}"
#: A zero with a sign, and no other number that begins or goes on in such a way.
NEGATIVE_ZERO = re.compile(r"(?<![\w.)])-(0(?:\.0+)?)(?![\d.e])")
#: Categories of Unicode whose characters do something to a terminal or a line, or say nothing: controls, marks of the
#: direction of writing, halves of characters, ends of lines and paragraphs.
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def visible(text: str, keep: str = "") -> str:
    """A text that others wrote, in which characters that one does not see are spelled: `\\n`, `\\x1b`, `\\u202e`.

    Whatever a file says of itself, it moves no cursor, changes no colour, and begins no line of its own.

    Arguments:
        keep: Characters that stay as they are, as the ends of lines of a text that has several.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        repr(sign)[1:-1] if unicodedata.category(sign) in UNSEEN and sign not in keep else sign for sign in text
    )


def shortened(text: str, most: int) -> str:
    """A sentence of others on one line, of at most `most` signs: long words lose their ends, and then it its own."""
    words = (word if len(word) <= WORD else f"{word[: WORD - 1]}…" for word in text.split())
    line = " ".join(words)
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def table(rows: Sequence[Sequence[str]], header: Sequence[str], align: str = "") -> str:
    """Rows under a header and a rule, columns as wide as their widest cell.

    Arguments:
        rows: The cells; every row has as many as the header.
        header: The names of the columns.
        align: "l" or "r" for each column; columns beyond its end are left-aligned.

    What a cell has of characters that one does not see is spelled, as by `visible`.
    """
    header, rows = [visible(name) for name in header], [[visible(cell) for cell in row] for row in rows]
    align = align.ljust(len(header), "l")
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def write(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(cells, widths, align, strict=True)
        )
        return GAP.join(padded).rstrip()

    rule = GAP.join("─" * width for width in widths)
    return "\n".join([write(header), rule, *map(write, rows)])


def with_error(value: float, se: float | None) -> str:
    """`−1.681 ± 0.054`: a value and its standard error, both rounded to two significant digits of the error.

    Without an error, or with one that is not above zero or not finite, the value has three decimals. Very large and
    very small numbers share one power of ten: `(1.2346 ± 0.0012)e9`.
    """
    if not math.isfinite(value):
        return minus(str(value))
    error = se if se is not None and math.isfinite(se) and se > 0 else 0.0
    size = max(abs(value), error)
    if 0 < error < size * EPSILON:  # no digit of the value is in doubt
        return minus(f"{value:.6g} ± {error:.1e}")
    exponent = Decimal(size).adjusted() if size > 0 else 0
    shift = 0 if -4 <= exponent < 7 else exponent
    # The error's exponent as it is printed: 0.0996 becomes 0.10, so it counts as 10⁻¹.
    places = 1 - int(f"{error:.1e}".partition("e")[2]) + shift if error > 0 else 3
    text = _rounded(value, places, shift)
    if se is not None:
        text = f"{text} ± {_rounded(error, places, shift) if error > 0 else f'{se:g}'}"
        text = f"({text})" if shift else text
    return minus(f"{text}e{shift}" if shift else text)


def _rounded(value: float, places: int, shift: int) -> str:
    """value / 10^shift with `places` decimals; a negative number of places rounds to tens, hundreds, …"""
    scaled = Decimal(value).scaleb(-shift)  # 10.0**shift under- or overflows where the value itself does not
    return f"{round(scaled, places):.{max(places, 0)}f}"


def minus(text: str) -> str:
    """A number as text, with a minus sign in place of a hyphen; what was rounded to zero has none."""
    return NEGATIVE_ZERO.sub(r"\1", text).replace("-", MINUS)
