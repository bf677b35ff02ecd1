"""A report in LaTeX: tables of the package booktabs, one after the other."""

from __future__ import annotations

import re

from ..io.text import MINUS
from .groups import Cell, Comparison

__all__ = ["latex"]

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "±": r"$\pm$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def latex(report: Comparison) -> str:
    """The tables, and in comments the notes and what is not in the tables."""
    lines = []
    for part in report.named_tables():
        lines += [f"% {part.theme.name}", rf"\begin{{tabular}}{{{part.align}}}", r"\toprule"]
        lines += [" & ".join(map(_escaped, part.header)) + r" \\", r"\midrule"]
        lines += [" & ".join(map(_cell, row)) + r" \\" for row in part.rows]
        lines += [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join([*lines, *(f"% {_escaped(note)}" for note in [*report.notes(), *report.left()])]) + "\n"


def _cell(value: str | Cell) -> str:
    if isinstance(value, str):
        return _escaped(value)
    number = value.text.replace(MINUS, "-").replace("±", r"\pm")
    number = re.sub(r"e(-?\d+)$", r" \\times 10^{\1}", number)
    return rf"$\mathbf{{{number}}}$" if value.rank == "best" else f"${number}$"


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(character, character) for character in text).replace("k̂", r"$\hat{k}$")
