"""A report for the terminal."""

from __future__ import annotations

from ..io.text import table
from .groups import Cell, Comparison

__all__ = ["text"]

MARKS = {"best": " ◀", "near": " ≈", "": "  "}


def text(report: Comparison) -> str:
    """Each table under its name, the notes, and what is not in the tables."""
    parts = []
    for part in report.named_tables():
        rows = [[_cell(cell) for cell in row] for row in part.rows]
        parts.append(f"{part.theme.name}\n{table(rows, part.header, part.align)}")
    if parts:
        ranked = "◀ best of its dataset; ≈ not told apart from it, within two standard errors."
        parts.append("\n".join([*report.notes(), ranked]))
    if left := report.left():
        parts.append("\n".join(["not in the tables:", *(f"  {line}" for line in left)]))
    return "\n\n".join(parts) if parts else "no runs found"


def _cell(value: str | Cell) -> str:
    return value if isinstance(value, str) else value.text + MARKS[value.rank]
