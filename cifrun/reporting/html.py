"""A report as one HTML page, for a wide window and for a phone, that needs no network: its pictures are part of it."""

from __future__ import annotations

import base64
import html
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..io.text import MINUS

if TYPE_CHECKING:
    from .report import Cell, Group, Report, Table

__all__ = ["page"]

#: Figures of a group's first run that the page shows.
FIGURES = ("density.png", "samples.png", "reconstructions.png", "marginals.png", "lipschitz.png")


def page(report: Report) -> str:
    """One HTML page that needs nothing else: its pictures are part of it."""
    datasets = dict.fromkeys(group.dataset for group in report.groups)
    title = f"Runs compared on {next(iter(datasets))}" if len(datasets) == 1 else "Runs compared"
    left = report.left()
    done = sum(len(group.runs) for group in report.groups)
    parts = [f"<h1>{html.escape(title)}</h1>", f"<p>{done} complete runs in {len(report.groups)} rows"]
    parts[-1] += f'; <a href="#left">{len(left)} not in the tables</a>.</p>' if left else ".</p>"
    if report.groups:
        parts.append('<div class="tables">')
        parts += [_section(report, part, list(datasets)) for part in report.tables()]
        ranked = "Shaded is best of its dataset, ≈ not told apart from it, within two standard errors."
        parts.append(f"</div><p>{_html(' '.join([*report.notes(), ranked]))}</p>")
    if left:
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in left)
        parts.append(f'<h2 id="left">Not in the tables</h2><ul>{lines}</ul>')
    parts += _pictures(report)
    head, foot = PAGE.split("BODY")
    return head.replace("TITLE", html.escape(title)) + "\n".join(parts) + foot


def _section(report: Report, part: Table, datasets: Sequence[str]) -> str:
    """A table under its name; rows of a dataset stand together, under its name if there are several."""
    better = {metric.title: metric.better for metric in part.theme.metrics}
    head = "".join(
        f'<th scope="col" class="{side}">{_heading(title, better.get(title, 0))}</th>'
        for title, side in zip(part.header, part.align, strict=True)
    )
    bodies = []
    for dataset in datasets:
        lines = []
        if len(datasets) > 1:
            across = f'colspan="{1 + len(part.header)}" scope="rowgroup"'
            lines.append(f"<tr><th {across}><span>{html.escape(dataset)}</span></th></tr>")
        for group, row in zip(report.groups, part.rows, strict=True):
            if group.dataset == dataset:
                cells = "".join(_cell(value, side) for value, side in zip(row, part.align, strict=True))
                lines.append(f'<tr><th scope="row">{_named(report, group)}</th>{cells}</tr>')
        bodies.append("<tbody>\n" + "\n".join(lines) + "\n</tbody>")
    title = f'<h2>{part.theme.name.capitalize()}</h2><p class="hint">{_html(part.theme.hint)}</p>'
    rows = f"<table><thead><tr><td></td>{head}</tr></thead>{''.join(bodies)}</table>"
    return f'<section>{title}<div class="wide">{rows}</div></section>'


def _named(report: Report, group: Group) -> str:
    """A group's name, and below it in small print what else tells it from others, and its seeds."""
    seeds = f"{len(group.runs)} seeds" if len(group.runs) > 1 else "1 seed *"
    name, *small = (
        re.sub(r"([_.])(?=[a-z])", r"\1<wbr>", html.escape(text)) for text in (group.name, *report.told(group), seeds)
    )
    return f"{name}<small>{'<br>'.join(small)}</small>"


def _pictures(report: Report) -> Iterator[str]:
    """For each dataset and flow the curves of its rows, and the figures of each row's first seed side by side."""
    flows: dict[tuple[str, str], list[Group]] = defaultdict(list)
    for group in report.groups:
        flows[group.dataset, str(group.get("flow.family"))].append(group)
    for (dataset, flow), groups in flows.items():
        yield f"<h2>{html.escape(f'{dataset}, {flow}')}</h2>"
        text = f"{dataset}, {flow}: validation log-likelihood over training"
        yield f'<div class="pictures">{_picture(_curves(report, groups), text)}</div>'
        for name in FIGURES:
            files = [(group, group.first.path / "figures" / name) for group in groups]
            shown = [
                _picture(path.read_bytes(), f"{report.label(group)}, seed {group.first.seed[0]}: {path.stem}")
                for group, path in files
                if path.is_file()
            ]
            if shown:
                yield f'<div class="pictures">{"".join(shown)}</div>'


def _curves(report: Report, groups: Sequence[Group]) -> bytes:
    from ..figures.plots import curves

    figure = curves({report.label(group): [run.metrics for run in group.runs] for group in groups})
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


# --- parts ------------------------------------------------------------------------------------------------------------

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>TITLE</title><link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; --line: #d5d5d5; --back: #fff; --text: #1a1a1a; --quiet: #5f5f5f; --best: #dcebf7; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3d3d3d; --back: #161616; --text: #e6e6e6; --quiet: #a3a3a3; --best: #17364f; }
}
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 76rem;
       background: var(--back); color: var(--text); }
h1, h2 { line-height: 1.25; overflow-wrap: anywhere; } h2 { font-size: 1.25rem; margin: 2rem 0 0.3rem; }
a { color: inherit; } li { overflow-wrap: anywhere; }
.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 32rem), 1fr)); gap: 0 3rem; }
section { min-width: 0; display: flex; flex-direction: column; }
.hint, small, figcaption { color: var(--quiet); font-size: 0.85rem; line-height: 1.4; } .hint { margin: 0 0 0.5rem; }
small { display: block; font-size: 0.78rem; font-weight: 400; }
.wide { overflow-x: auto; margin-top: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.95rem; line-height: 1.3; }
th, td { padding: 0.35rem 0.6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th, thead td { vertical-align: bottom; font-size: 0.85rem; font-weight: 600; border-bottom-width: 2px; }
th[scope=row] { position: sticky; left: 0; background: var(--back); font-weight: 500; padding-left: 0;
                width: 8.5rem; overflow-wrap: anywhere; }
th[scope=rowgroup] { padding: 0.9rem 0 0.2rem; } th[scope=rowgroup] span { position: sticky; left: 0; }
td { white-space: nowrap; } td small { font-variant-numeric: tabular-nums; }
.r { text-align: right; font-variant-numeric: tabular-nums; }
.best { background: var(--best); font-weight: 700; }
sub, sup { font-size: 0.75em; line-height: 0; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 32rem), 1fr)); gap: 1rem 2rem; }
figure { margin: 0.5rem 0; } figure img { max-height: 26rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
@media (max-width: 44rem) {
  body { padding: 0.75rem; } table { font-size: 0.85rem; } thead th, thead td { font-size: 0.75rem; }
  small { font-size: 0.72rem; } th[scope=row] { width: 4.2rem; min-width: 4.2rem; }
  th, td { padding: 0.35rem 0.2rem; } .l { padding-left: 0.6rem; } th:last-child, td:last-child { padding-right: 0; }
}
</style></head><body>
BODY
</body></html>
"""


def _picture(png: bytes, text: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    image = f'<img alt="{html.escape(text, quote=True)}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{html.escape(text)}</figcaption></figure>"


def _heading(title: str, better: int) -> str:
    """The name of a column, with an arrow towards what is better; its unit is on a line of its own."""
    name, _, unit = title.partition(" [")
    arrow = {1: "&nbsp;↑", -1: "&nbsp;↓", 0: ""}[better]
    return f"{html.escape(name)}{arrow}" + (f"<small>{html.escape(unit[:-1])}</small>" if unit else "")


def _cell(value: str | Cell, side: str) -> str:
    """A number with its error on a second line; ≈ stands before a number, where it does not move the digits."""
    if isinstance(value, str):
        return f'<td class="{side}">{_html(value)}</td>'
    mean, error = map(_html, value.parts)
    near = "≈ " if value.rank == "near" else ""
    return f'<td class="{side} {value.rank}">{near}{mean}' + (f"<small>± {error}</small>" if error else "") + "</td>"


def _html(text: str) -> str:
    """Text for HTML: IWAE_m with a subscript, and a power of ten as one writes it."""
    text = re.sub(r"IWAE_(\w+)", r"IWAE<sub>\1</sub>", html.escape(text)).replace(" %", "&nbsp;%")
    return re.sub(rf"(?<=\d)e({MINUS}?\d+)$", r"·10<sup>\1</sup>", text)
