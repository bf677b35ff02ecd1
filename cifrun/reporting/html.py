"""A report as one HTML page, for a wide window and for a phone. It needs no network: its pictures are part of it.

`page.html.j2` is the page, with its style; what is computed here is what it shows.
"""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Iterator

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ..figures.style import rendered
from ..figures.training import compare_training
from ..io.text import MINUS
from ..runs.metrics import NUMBERS
from .groups import Comparison, Group
from .significance import LEVEL

#: Figures of a group's first run that the page shows.
FIGURES = ("density.png", "samples.png", "reconstructions.png", "marginals.png", "lipschitz.png")

#: A picture, base64 of a PNG, and the text below it.
Picture = tuple[str, str]


def page(report: Comparison) -> str:
    """The report, its notes, and its pictures."""
    environment = Environment(
        loader=PackageLoader("cifrun.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"typeset": typeset, "breakable": breakable}
    environment.globals |= {"zip": zip}
    return environment.get_template("page.html.j2").render(
        report=report,
        level=LEVEL,
        datasets=list(dict.fromkeys(group.dataset for group in report.groups)),
        better={metric.heading: metric.better for metric in NUMBERS if metric.title},
        pictures=_pictures(report),
    )


def typeset(text: str) -> Markup:
    """IWAE_m with a subscript, and a power of ten as one writes it."""
    text = re.sub(r"IWAE_(\w+)", r"IWAE<sub>\1</sub>", str(escape(text))).replace(" %", "&nbsp;%")
    return Markup(re.sub(rf"(?<=\d)e({MINUS}?\d+)$", r"·10<sup>\1</sup>", text))


def breakable(text: str) -> Markup:
    """A name that may be broken after its dots and underscores."""
    return Markup(re.sub(r"([_.])(?=[a-z])", r"\1<wbr>", str(escape(text))))


def _pictures(report: Comparison) -> Iterator[tuple[str, list[list[Picture]]]]:
    """For each dataset and flow the curves of its rows, and the figures of each row's first seed side by side."""
    flows: dict[tuple[str, str], list[Group]] = defaultdict(list)
    for group in report.groups:
        flows[group.dataset, str(group.get("flow.family"))].append(group)
    for (dataset, flow), groups in flows.items():
        title = f"{dataset}, {flow}"
        metrics = {report.label(group): [run.metrics for run in group.runs] for group in groups}
        rows = [[_picture(rendered(compare_training(metrics)), f"{title}: validation log-likelihood over training")]]
        for name in FIGURES:
            texts = {g.first.path / "figures" / name: f"{report.label(g)}, seed {g.first.seed}" for g in groups}
            found = [(path, text) for path, text in texts.items() if path.is_file()]
            rows.append([_picture(path.read_bytes(), f"{text}: {path.stem}") for path, text in found])
        yield title, [row for row in rows if row]


def _picture(png: bytes, text: str) -> Picture:
    return base64.b64encode(png).decode("ascii"), text
