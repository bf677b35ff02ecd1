"""A report as text: for the terminal, in Markdown, in LaTeX with booktabs, and as comma-separated values."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..io.text import MINUS, table, visible
from .groups import Cell, Comparison, typed
from .significance import LEVEL

MARKS = {"best": " ◀", "near": " ≈", "": "  "}
MARKDOWN_MARKS = {"best": "**{}**", "near": "{} ≈", "": "{}"}
MARKDOWN_RULES = {"l": "---", "r": "---:"}
#: What Markdown, or HTML in it, takes for markup, written so that it does not.
MARKDOWN = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "@": "&#64;",  # would make a link of an address
    **{character: f"\\{character}" for character in "\\`*[]|#~!$"},
}
#: What a cell begins with that spreadsheets take for a formula, and what stands before it so that they don't.
FORMULA, HARMLESS = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"), "'"
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "±": r"$\pm$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def text(report: Comparison) -> str:
    """Each table under its name, the notes, and what is not in the tables."""
    parts = []
    for part in report.named_tables():
        rows = _written(part.rows, str, lambda cell: cell.text + MARKS[cell.rank])
        parts.append(f"{part.theme.name}\n{table(rows, part.header, part.align)}")
    if parts:
        ranked = f"◀ best of its dataset; ≈ does not differ from it significantly (Student's t, {100 * LEVEL:g} %)."
        parts.append("\n".join([*map(visible, report.notes()), ranked]))
    if left := report.left():
        parts.append("\n".join(["not in the tables:", *(f"  {visible(line)}" for line in left)]))
    return "\n\n".join(parts) if parts else "no runs found"


def markdown(report: Comparison) -> str:
    """A section for each table, the notes, and what is not in the tables."""
    parts = []
    for part in report.named_tables():
        rows = _written(part.rows, _marked, lambda cell: MARKDOWN_MARKS[cell.rank].format(cell.text))
        lines = [[*map(_marked, part.header)], [MARKDOWN_RULES[side] for side in part.align], *rows]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"## {part.theme.name.capitalize()}\n\n{part.theme.hint}\n\n{body}\n")
    if parts:
        parts.append(
            " ".join(
                [
                    *map(_marked, report.notes()),
                    "**Bold** is best of its dataset, ≈ does not differ from it significantly.",
                ]
            )
            + "\n"
        )
    if left := report.left():
        parts.append("\n".join(["Not in the tables:\n", *(f"- {_marked(line)}" for line in left)]) + "\n")
    return "\n".join(parts)


def latex(report: Comparison) -> str:
    """The tables, and in comments the notes and what is not in the tables."""
    lines = []
    for part in report.named_tables():
        lines += [f"% {part.theme.name}", rf"\begin{{tabular}}{{{part.align}}}", r"\toprule"]
        lines += [" & ".join(map(_escaped, part.header)) + r" \\", r"\midrule"]
        lines += [" & ".join(row) + r" \\" for row in _written(part.rows, _escaped, _latex_number)]
        lines += [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join([*lines, *(f"% {_escaped(note)}" for note in [*report.notes(), *report.left()])]) + "\n"


def comma_separated(report: Comparison) -> str:
    """A line for each group, a mean and an error a column, with all digits; no text is a formula of a spreadsheet."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    numbers = [name for metric in report.metrics for name in (metric.name, f"{metric.name}_se")]
    costs = ["estimate", "parameters", "steps", "wall_seconds"]
    writer.writerow(map(_plain, ["dataset", "flow", "cif", *report.columns, "seeds", *numbers, *costs]))
    for group in report.groups:
        found = [group.cells.get(metric.name) for metric in report.metrics]
        values = [x for cell in found for x in ((cell.mean, cell.se) if cell else (None, None))]
        names = [group.dataset, group.get("flow.family"), typed(bool(group.get("cif")))]
        summary = group.first.summary
        told = [group.first.estimate, summary.get("parameters"), summary.get("steps"), group.seconds]
        settings = (typed(group.get(k)) for k in report.columns)
        writer.writerow(map(_plain, [*names, *settings, len(group.runs), *values, *told]))
    return stream.getvalue()


def _written(
    rows: list[list[str | Cell]], word: Callable[[str], str], number: Callable[[Cell], str]
) -> list[list[str]]:
    """The rows of a table with each text as `word` writes it, and each cell as `number` does."""
    return [[word(value) if isinstance(value, str) else number(value) for value in row] for row in rows]


def _marked(text: str) -> str:
    """A text that Markdown shows as it is, whatever is in it."""
    plain = "".join(MARKDOWN.get(character, character) for character in visible(text))
    plain = re.sub(r"(?<!\w)_|_(?!\w)", r"\_", plain)  # within a word it is no markup
    return plain.replace("://", "&#58;//").replace("www.", "www&#46;")  # which would be links


def _plain(value: Any) -> Any:
    """A value of a table that a spreadsheet does not take for a formula; a number stays one."""
    if not isinstance(value, str):
        return value
    with suppress(ValueError):
        float(value)
        return value
    return visible(f"{HARMLESS}{value}" if value.startswith(FORMULA) else value)


def _latex_number(cell: Cell) -> str:
    number = cell.text.replace(MINUS, "-").replace("±", r"\pm")
    number = re.sub(r"e(-?\d+)$", r" \\times 10^{\1}", number)
    return rf"$\mathbf{{{number}}}$" if cell.rank == "best" else f"${number}$"


def _escaped(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in visible(text)).replace("k̂", r"$\hat{k}$")
