"""A report in Markdown."""

from __future__ import annotations

from .groups import Cell, Comparison

__all__ = ["markdown"]

RULES = {"l": "---", "r": "---:"}
MARKS = {"best": "**{}**", "near": "{} ≈", "": "{}"}


def markdown(report: Comparison) -> str:
    """A section for each table, the notes, and what is not in the tables."""
    parts = []
    for part in report.named_tables():
        lines = [part.header, [RULES[side] for side in part.align]]
        lines += [[_cell(value) for value in row] for row in part.rows]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"## {part.theme.name.capitalize()}\n\n{part.theme.hint}\n\n{body}\n")
    if parts:
        parts.append(" ".join([*report.notes(), "**Bold** is best of its dataset, ≈ not told apart from it."]) + "\n")
    if left := report.left():
        parts.append("\n".join(["Not in the tables:\n", *(f"- {line}" for line in left)]) + "\n")
    return "\n".join(parts)


def _cell(value: str | Cell) -> str:
    return value.replace("|", "\\|") if isinstance(value, str) else MARKS[value.rank].format(value.text)
