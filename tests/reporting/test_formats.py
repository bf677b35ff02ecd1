"""A report as text, in each format: what is marked, what is escaped, and what is there when there is nothing."""

from __future__ import annotations

import csv
import html
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifrun.io.text import visible
from cifrun.reporting import formats
from cifrun.reporting.groups import Cell, Comparison, Table
from cifrun.runs.metrics import Theme

from .example_runs import read, write

ROWS: list[list[str | Cell]] = [
    ["a_b", Cell(-1.5, 0.012, "best"), Cell(1e10, None)],
    ["c|d", Cell(-1.51, 0.02, "near"), "–"],
    ["e", Cell(-9.0, 0.5), Cell(-1.15e-6, 2.8e-7, "best")],
]


def report(
    rows: Sequence[list[str | Cell]] = ROWS, notes: Sequence[str] = ("A note.",), left: Sequence[str] = ()
) -> Comparison:
    """What a format asks of a comparison: one table, notes, and what is left."""
    tables = [Table(Theme("fit", "Read it so."), ["flow", "log p", "ceiling"], "lrr", list(rows))] if rows else []
    parts = {"named_tables": lambda: iter(tables), "notes": lambda: list(notes), "left": lambda: list(left)}
    return cast(Comparison, SimpleNamespace(**parts))


def test_the_terminal_marks_the_best_and_what_is_not_told_apart_from_it() -> None:
    told = formats.text(report(left=["run7: failed"]))
    table, notes, left = told.split("\n\n")
    theme, _, _, *lines = table.splitlines()
    assert theme == "fit"
    assert [line.split() for line in lines] == [
        ["a_b", "−1.500", "±", "0.012", "◀", "1e10"],
        ["c|d", "−1.510", "±", "0.020", "≈", "–"],
        ["e", "−9.00", "±", "0.50", "(−1.15", "±", "0.28)e−6", "◀"],
    ]
    ends = [re.search(r"±.\S+", line).end() for line in lines]
    assert len(set(ends)) == 1, "errors stand below each other whether they are marked or not"
    assert notes.startswith("A note.\n◀ best") and left == "not in the tables:\n  run7: failed"


def test_markdown_is_a_table_in_which_no_word_opens_a_column() -> None:
    heading, hint, table, notes, title, left = formats.markdown(report(left=["run7: failed"])).split("\n\n")
    assert (heading, hint, title) == ("## Fit", "Read it so.", "Not in the tables:")
    head, rule, *rows = [re.split(r"(?<!\\)\|", line) for line in table.strip().splitlines()]
    assert rule == ["", " --- ", " ---: ", " ---: ", ""]
    assert all(len(row) == len(head) == 5 for row in rows)
    assert [row[2].strip() for row in rows] == ["**−1.500 ± 0.012**", "−1.510 ± 0.020 ≈", "−9.00 ± 0.50"]
    assert rows[1][1] == " c\\|d " and left == "- run7: failed\n" and notes.startswith("A note. **Bold**")


def test_latex_numbers_are_mathematics() -> None:
    lines = formats.latex(report(left=["50 % of a_b"])).splitlines()
    assert [line for line in lines if line.endswith(r"\\")] == [
        r"flow & log p & ceiling \\",
        r"a\_b & $\mathbf{-1.500 \pm 0.012}$ & $1 \times 10^{10}$ \\",
        r"c|d & $-1.510 \pm 0.020$ & -- \\",
        r"e & $-9.00 \pm 0.50$ & $\mathbf{(-1.15 \pm 0.28) \times 10^{-6}}$ \\",
    ]
    assert lines[1] == r"\begin{tabular}{lrr}" and lines[-2:] == ["% A note.", r"% 50 \% of a\_b"]


@given(st.text("ab\\~^&%$#_{}–±k̂ ", max_size=20))
def test_no_word_is_a_command_of_latex(word: str) -> None:
    """Read back by what LaTeX would typeset, the cell is the word; and nothing that is special stands there bare."""
    line = next(line for line in formats.latex(report([[word, "", ""]])).splitlines() if line.endswith(r" &  &  \\"))
    cell = line.removesuffix(r" &  &  \\")
    typeset = {
        r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", "--": "–", r"$\pm$": "±",
        r"$\hat{k}$": "k̂", **{rf"\{special}": special for special in "&%$#_{}"},
    }  # fmt: skip
    known = "|".join(map(re.escape, sorted(typeset, key=len, reverse=True)))
    assert re.fullmatch(rf"(?:{known}|[^\\~^&%$#_{{}}])*", cell)
    assert re.sub(known, lambda found: typeset[found[0]], cell) == word


#: Names as nobody should give them, each with what a terminal, a page or a spreadsheet would make of it.
EVIL = [
    "\x1b[2J", "a\n# heading", "a\r\tb", "\u202egnp", "|a|", "`rm`", "*b*", "_c_", "[x](http://evil)", "![x](//evil)",
    "<script>alert(1)</script>", "&lt;", "https://evil", "www.evil", "me@evil", "~~d~~", "$x$", "\\", "# e", "=1+1",
    "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1",
]  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
def test_no_name_moves_a_cursor_or_begins_a_line(name: str) -> None:
    tables = report([[name, "", ""]], notes=[f"of {name}"], left=[f"{name}: failed"])
    for write_as in (formats.text, formats.markdown, formats.latex):
        shown = write_as(tables)
        assert shown.replace("\n", "").isprintable()
        assert len(shown.splitlines()) == len(write_as(report([["a", "", ""]], left=["a: failed"])).splitlines())


@pytest.mark.parametrize("name", EVIL)
def test_markdown_shows_a_name_as_it_is(name: str) -> None:
    """Made HTML, each cell, note and line is the name, and holds no tag."""
    markdown = pytest.importorskip("markdown")
    page = markdown.markdown(
        formats.markdown(report([[name, "", ""]], notes=[f"of {name}."], left=[f"of {name}: failed"])),
        extensions=["tables"],
    )
    told = html.escape(visible(name), quote=False)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page)
    plain = [
        re.sub(r"&#(\d+);|\\\\([~$])", lambda m: chr(int(m[1])) if m[1] else m[2], text) for text in [cells[0], page]
    ]
    plain = [text.replace("\\|", "|").replace("\\~", "~").replace("\\$", "$") for text in plain]
    assert (
        plain[0] == told.strip()
        and f"<p>of {told}. <strong>Bold" in plain[1]
        and f"<li>of {told}: failed</li>" in plain[1]
    )
    assert not re.search(r"<(?:a|img|script|em|code|del|h1)\b", page)


@pytest.mark.parametrize("name", EVIL)
def test_no_cell_of_a_spreadsheet_is_a_formula(name: str, tmp_path: Path) -> None:
    write(tmp_path / "a", dataset={"name": "file", "path": f"/data/{name.replace('/', '')}.csv"}, likelihood=-1.5)
    write(tmp_path / "b", flow={"family": "maf"}, optimizer={"name": "adam", "lr": 1e-4}, likelihood=-2.5)
    (row, other) = list(csv.reader(io.StringIO(formats.comma_separated(read(tmp_path)))))[1:]
    for cell in (*row, *other):
        assert cell.isprintable()
        assert not cell.startswith(("=", "+", "-", "@")) or math.isfinite(float(cell))
    assert {"-1.5", "-2.5"} <= {*row, *other}


@pytest.mark.parametrize(
    ("write_as", "empty", "left"),
    [
        (formats.text, "no runs found", "not in the tables:\n  run7: failed"),
        (formats.markdown, "", "Not in the tables:\n\n- run7: failed\n"),
        (formats.latex, "\n", "% run7: failed\n"),
    ],
)
def test_without_a_table_there_is_only_what_is_left(write_as: Any, empty: str, left: str) -> None:
    assert write_as(report([], notes=[])) == empty
    assert write_as(report([], notes=[], left=["run7: failed"])) == left


def test_values_with_commas_are_one_value_and_what_a_group_lacks_is_empty(tmp_path: Path) -> None:
    write(tmp_path / "a", flow={"family": "maf", "hidden": [8, 8]}, likelihood=-0.1 - 0.2)
    write(tmp_path / "b", flow={"family": "maf", "hidden": [9]}, likelihood=-1.5)
    write(tmp_path / "c", dataset={"name": "rings"}, status="failed")
    rows = list(csv.DictReader(io.StringIO(formats.comma_separated(read(tmp_path)))))
    assert [row["flow.hidden"] for row in rows] == ["[8,8]", "[9]"]
    assert float(rows[0]["log_likelihood"]) == -0.1 - 0.2, "all digits"
    assert {(row["dataset"], row["flow"], row["cif"], row["seeds"]) for row in rows} == {
        ("two_uniforms", "maf", "true", "1")
    }
    assert [row["kl_to_truth_se"] for row in rows] == ["", ""] and rows[0]["estimate"] == "IWAE_20"
