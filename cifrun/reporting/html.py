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

from ..errors import RunError
from ..figures.style import rendered
from ..figures.training import compare_training
from ..io.files import inside
from ..io.text import MINUS, visible
from ..runs.metrics import NUMBERS
from .groups import Comparison, Group
from .significance import LEVEL

#: Figures of a group's first run that the page shows.
FIGURES = ("density.png", "samples.png", "reconstructions.png", "marginals.png", "lipschitz.png")
#: What a PNG begins with, and bytes that one has at most.
PNG, LARGEST = b"\x89PNG", 2**25

#: A picture, base64 of a PNG or nothing, and the text below it.
Picture = tuple[str, str]


def page(report: Comparison) -> str:
    """The report, its notes, and its pictures."""
    environment = Environment(
        loader=PackageLoader("cifrun.reporting", ""),
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
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
    text = re.sub(r"IWAE_(\w+)", r"IWAE<sub>\1</sub>", str(escape(visible(text)))).replace(" %", "&nbsp;%")
    return Markup(re.sub(rf"(?<=\d)e({MINUS}?\d+)$", r"·10<sup>\1</sup>", text))


def breakable(text: str) -> Markup:
    """A name that may be broken after its dots and underscores."""
    return Markup(re.sub(r"([_.])(?=[a-z])", r"\1<wbr>", str(escape(visible(text)))))


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
            rows.append([found for group in groups if (found := _drawn(report, group, name))])
        yield title, [row for row in rows if row]


def _drawn(report: Comparison, group: Group, name: str) -> Picture | None:
    """A figure of a group's first run; a sentence in its place if it can't be shown; None if it was not drawn."""
    run = group.first
    text = f"{report.label(group)}, seed {run.seed}: {name.removesuffix('.png')}"
    try:
        path = inside(run.path / "figures" / name, run.path)
        if not path.is_file():
            return None
        with open(path, "rb") as stream:
            png = stream.read(LARGEST + 1)
    except (RunError, OSError) as error:
        return "", f"{text} is missing: {error}"
    return _picture(png, text) if png.startswith(PNG) and len(png) <= LARGEST else ("", f"{text} is no picture")


def _picture(png: bytes, text: str) -> Picture:
    return base64.b64encode(png).decode("ascii"), text
