"""What all pictures share: sizes, colours, panels, legends, names of axes, and the file.

Pictures are matplotlib's objects, made without pyplot, so that drawing needs no display and leaves no state behind.
matplotlib is imported when the first picture is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..io.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["array", "bare", "colour_bar", "coordinate", "legend", "log_scale", "name_axes", "panel", "panels", "save"]

DPI = 150
COLOURS = "viridis"  # perceptually uniform, and the same to a colour-blind eye
DATA, MODEL = "#D55E00", "#0072B2"  # vermillion and blue of Okabe and Ito's palette
PALE = "#999999"
#: One of these a label, where several models are compared (Okabe and Ito's, without yellow).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
TITLE, LABEL, TICK = 12, 11, 9  # points
LINE, DENSITY = "$x$", "density $p(x)$"  # what the axes of a density on a line are called


def panels(
    size: tuple[float, float], title: str, rows: int = 1, columns: int = 1, *, above: float = 0.0, **shared: Any
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes, (rows, columns).

    Arguments:
        size: Width and height in inches, to which a title adds `above`.
        title: A line above the panels.
        rows, columns: How many panels.
        shared: `sharex` and `sharey`, whether all panels have the same scale.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    width, height = size
    layout = ConstrainedLayoutEngine(h_pad=0.08)
    figure = Figure(figsize=(width, height + (above if title else 0)), dpi=DPI, layout=layout, facecolor="white")
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


def log_scale(axis: Axes) -> None:
    """A logarithmic scale of what is drawn, with plain numbers; 2 and 5 are among them if it is short."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_yscale("log")
    low, high = axis.get_ylim()
    plain = StrMethodFormatter("{x:g}")
    axis.yaxis.set_major_formatter(plain)
    axis.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    axis.yaxis.set_minor_formatter(plain if high < 1000 * low else NullFormatter())
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
    """Write the names of a table's columns, if it has any, where axes are called x, or x₁, x₂, …; the same figure."""
    names = {coordinate(k): name.replace("$", r"\$") for k, name in enumerate(columns)}
    if len(columns) == 1:
        names[LINE] = names[coordinate(0)]
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set_text(names.get(axis.label.get_text(), axis.label.get_text()))
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure; the file's ending says the format. Raises `RunError` if it can't be written."""
    figure.draw_without_rendering()  # square panels take the layout a second pass to settle
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png")


def array(tensor: Tensor) -> np.ndarray:
    """A tensor as matplotlib takes it: float64, on the CPU."""
    return tensor.detach().double().cpu().numpy()
