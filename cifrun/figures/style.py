"""What all pictures share: colours, panels, legends, names of axes, the file, and in the plane a box and a grid.

Pictures are matplotlib's objects, made without pyplot on the canvas Agg, so that drawing needs no display, whatever
MPLBACKEND says, and leaves no state behind. matplotlib is imported when the first picture is drawn.

Everywhere a `title` is a line above the panels, and a `window` the box of the plane to draw.
"""

from __future__ import annotations

import io
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..data.base import Box, Target
from ..io.files import replacing
from ..io.text import visible
from .ticks import fit_labels, spread_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

DPI = 150
COLOURS = "viridis"  # perceptually uniform, and the same to a colour-blind eye
DATA, MODEL = "#D55E00", "#0072B2"  # vermillion and blue of Okabe and Ito's palette
PALE = "#999999"
#: One of these a label, where several models are compared (Okabe and Ito's, without yellow).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
TITLE, LABEL, TICK = 12, 11, 9  # points
LONGEST = 24  # characters of the name of an axis
MAX_POINTS = 5_000  # dots of one colour in a picture
LINE, DENSITY = "$x$", "density $p(x)$"  # what the axes of a density on a line are called


def import_matplotlib() -> None:
    """Import matplotlib, which refuses to be imported if MPLBACKEND names what only the kernel of a notebook has."""
    try:
        import matplotlib
    except ValueError:
        backend = os.environ.pop("MPLBACKEND", None)
        for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:  # half of it
            del sys.modules[name]
        try:
            import matplotlib  # noqa: F401
        finally:
            if backend is not None:
                os.environ["MPLBACKEND"] = backend


def blank(size: tuple[float, float], **options: Any) -> Figure:
    """An empty figure of a width and height in inches."""
    import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, facecolor="white", **options)
    FigureCanvasAgg(figure)
    return figure


def panels(
    size: tuple[float, float], title: str, rows: int = 1, columns: int = 1, *, above: float = 0.0, **shared: Any
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes, (rows, columns).

    Arguments:
        size: Width and height in inches, to which a title adds `above`.
        rows, columns: How many panels.
        shared: `sharex` and `sharey`, whether all panels have the same scale.
    """
    import_matplotlib()
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    width, height = size
    figure = blank((width, height + (above if title else 0)), layout=ConstrainedLayoutEngine(h_pad=0.08))
    if title:
        figure.suptitle(title, fontsize=TITLE + 1)
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    for axis in axes.flat:
        axis.title.set_fontsize(TITLE)
        axis.xaxis.label.set_fontsize(LABEL)
        axis.yaxis.label.set_fontsize(LABEL)
        axis.tick_params(labelsize=TICK)
    return figure, axes


def panel(
    size: tuple[float, float], title: str, xlabel: str, ylabel: str, *, lines: bool = True
) -> tuple[Figure, Axes]:
    """A figure of one panel, as `bare` leaves it, and its axes."""
    figure, axes = panels(size, title)
    bare(axes[0, 0], lines=lines)
    axes[0, 0].set(xlabel=xlabel, ylabel=ylabel)
    return figure, axes[0, 0]


def bare(axis: Axes, *, lines: bool = False) -> None:
    """Take the frame's upper and right side away; `lines` adds a pale one at each tick of the vertical scale."""
    axis.spines[["top", "right"]].set_visible(False)
    if lines:
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)


def log_scale(axis: Axes, across: bool = False) -> None:
    """A logarithmic scale of what is drawn, up or `across`: plain numbers, with 2 and 5 among them if it is short."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    scale = axis.xaxis if across else axis.yaxis
    axis.set(**{"xscale" if across else "yscale": "log"})
    low, high = scale.get_view_interval()
    plain = StrMethodFormatter("{x:g}")
    scale.set_major_formatter(plain)
    scale.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    scale.set_minor_formatter(plain if high < 1000 * low else NullFormatter())
    axis.tick_params(which="minor", labelsize=TICK)


def legend(axis: Axes, markerscale: float = 3.0) -> None:
    """A legend without a frame; dots in it are this many times as large as in the picture."""
    from matplotlib.collections import PathCollection

    for handle in axis.legend(frameon=False, fontsize=TICK, markerscale=markerscale).legend_handles:
        if isinstance(handle, PathCollection):  # dots are pale because they overlap; one in a legend does not
            handle.set_alpha(1.0)


def colour_bar(axis: Axes, image: Any, label: str, extend: str = "neither") -> None:
    """The colour scale of an image, at the right side of its axis; `extend` says which of its ends are arrows."""
    beside = axis.inset_axes((1.04, 0.0, 0.05, 1.0))
    bar = axis.figure.colorbar(image, cax=beside, extend=extend)
    bar.set_label(label, fontsize=LABEL, labelpad=8)
    bar.ax.tick_params(labelsize=TICK)
    bar.outline.set_visible(False)


def coordinate(k: int, letter: str = "x") -> str:
    """What the axis of coordinate k = 0, 1, … is called."""
    return f"${letter}_{{{k + 1}}}$"


def name_axes(figure: Figure, columns: Sequence[str]) -> Figure:
    """Write the names of a table's columns, if it has any, where axes are called x, or x₁, x₂, …; the same figure.

    A name that the font can't write stays x_k, and a long one is cut.
    """
    names = {coordinate(k): written(name) for k, name in enumerate(columns) if _writable(name)}
    if len(columns) == 1 and coordinate(0) in names:
        names[LINE] = names[coordinate(0)]
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set_text(names.get(axis.label.get_text(), axis.label.get_text()))
    return figure


def written(name: str, longest: int = LONGEST) -> str:
    """A name that others gave as a label: of one line, not too long, and no formula."""
    plain = visible(name)
    short = plain if len(plain) <= longest else f"{plain[: longest - 1]}…"
    return short.replace("$", r"\$")


def _writable(name: str) -> bool:
    return all(map(_has_glyph, visible(name)))


@lru_cache(maxsize=4096)
def _has_glyph(character: str) -> bool:
    """Whether the font of labels has a character."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return get_font(findfont(FontProperties())).get_char_index(ord(character)) != 0


def rendered(figure: Figure, ending: str = "png") -> bytes:
    """A figure as the bytes of a file with this ending."""
    stream = io.BytesIO()
    with _quiet():
        figure.draw_without_rendering()  # square panels take the layout a second pass to settle
        fit_labels(figure)
        spread_ticks(figure)
        figure.savefig(stream, format=ending)
    return stream.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, nobody is told of signs that the fonts lack, which are boxes, nor of names wider than their panels."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        warnings.filterwarnings("ignore", "constrained_layout not applied", UserWarning)
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a figure; the file's ending says the format.

    Raises:
        RunError: It can't be written.
    """
    data = rendered(figure, path.suffix.lstrip(".") or "png")
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def save_twice(figure: Figure, path: Path, *, pdf_title: bool = True) -> bytes:
    """Write a figure as a PNG, of which `path` is the name, and as a PDF beside it; the bytes of the PNG.

    Arguments:
        pdf_title: Whether the PDF has the line above the panels too; in a paper, the caption says it.

    Raises:
        RunError: One can't be written.
    """
    save(figure, path)
    if not pdf_title:
        for line in figure.texts:  # the one text that belongs to no panel
            line.set_visible(False)
            line.set_in_layout(False)
    data = rendered(figure, "pdf")
    with replacing(path.with_suffix(".pdf")) as temporary:
        temporary.write_bytes(data)
    return path.read_bytes()


def array(tensor: Tensor) -> np.ndarray:
    """A tensor as matplotlib takes it: float64, on the CPU."""
    return tensor.detach().double().cpu().numpy()


# --- in the plane -----------------------------------------------------------------------------------------------------


def window_of(data: Tensor, target: Target | None = None, margin: float = 0.15) -> Box:
    """A box to draw: the target's window, or all but the outermost 0.1 % of the data, and a margin on every side.

    The margin, a fraction of the side, shows what a model smears over the edge. The box is a square unless the two
    coordinates have quite different scales.
    """
    if target is not None:
        sides = target.window
    else:
        finite = data.reshape(-1, 2).double()
        low, high = torch.quantile(finite[finite.isfinite().all(1)], torch.tensor([1e-3, 1 - 1e-3]).double(), dim=0)
        (a, c), (b, d) = low.tolist(), high.tolist()
        sides = (a, b), (c, d)
    widths = [max(high - low, 1e-6) for low, high in sides]
    if max(widths) < 4 * min(widths):
        widths = [max(widths)] * 2
    centres = [(low + high) / 2 for low, high in sides]
    first, second = ((c - w * (0.5 + margin), c + w * (0.5 + margin)) for c, w in zip(centres, widths, strict=True))
    return first, second


def grid(window: Box, resolution: int = 200) -> Tensor:
    """The centres of resolution × resolution cells that tile the window, (resolution², 2), float64, x₂ fastest."""
    centres = (torch.arange(resolution, dtype=torch.float64) + 0.5) / resolution
    axes = (low + (high - low) * centres for low, high in window)
    return torch.cartesian_prod(*axes)


def frame(axis: Axes, window: Box, title: str = "") -> None:
    """Make a panel show the window, with x₁ to the right and x₂ upward."""
    axis.set(xlim=window[0], ylim=window[1], xlabel=coordinate(0), ylabel=coordinate(1), title=title)
    axis.set_box_aspect(1)  # an equal aspect, since `window_of` gives squares where the scales allow
    axis.locator_params(nbins=5)
    axis.label_outer()
    axis.spines[:].set_linewidth(0.6)


def scatter(
    axis: Axes, points: Tensor, colour: str, label: str = "", *, scale: float = 1.0, alpha: float = 0.5
) -> None:
    """Draw points, (N, 2), of which at most `MAX_POINTS`, as dots that are smaller the more there are."""
    xy = array(points[:MAX_POINTS].reshape(-1, 2))
    size = min(12.0, 3.0 + 2_000 / max(len(xy), 1))
    style: dict[str, Any] = {"color": colour, "alpha": alpha, "linewidths": 0, "label": label}
    axis.scatter(xy[:, 0], xy[:, 1], s=scale * size, rasterized=True, **style)  # a PDF need not hold each dot


def shade(
    axis: Axes, values: np.ndarray, window: Box, low: float, high: float | None, smoothing: str, colours: str = COLOURS
) -> AxesImage:
    """Draw values at `grid(window, resolution)`, (resolution²,), as colours from `low` to `high`, or to the largest."""
    resolution = math.isqrt(len(values))
    style: dict[str, Any] = {"vmin": low, "vmax": high, "interpolation": smoothing, "cmap": colours}
    box = (*window[0], *window[1])
    pixels = values.reshape(resolution, resolution).T
    return axis.imshow(pixels, origin="lower", extent=box, aspect="auto", **style)


def outside(points: Tensor, window: Box) -> str:
    """`" (1.2 % outside)"` when the picture leaves out more than one sample in a thousand."""
    low, high = torch.tensor(window, dtype=points.dtype, device=points.device).unbind(1)
    inside = ((points >= low) & (points <= high)).all(1)
    share = 1.0 - inside.double().mean().item() if len(points) else 0.0
    return f" ({100 * share:.1f} % outside)" if share > 1e-3 else ""
