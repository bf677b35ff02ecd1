"""Labels that do not touch each other, whatever the numbers and the names, and however small the panel."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

#: Pixels between two labels, at least.
APART = 3.0
#: Points that letters have at least.
SMALLEST = 4.0


def fit_labels(figure: Figure) -> None:
    """Write names of axes that are longer than their panel smaller."""
    for axes in figure.axes:
        box = axes.get_window_extent()
        for axis, side in ((axes.xaxis, "width"), (axes.yaxis, "height")):
            share = getattr(box, side) / max(getattr(axis.label.get_window_extent(), side), 1.0)
            if axis.label.get_text() and share < 1:
                axis.label.set_fontsize(max(SMALLEST, share * axis.label.get_fontsize()))


def spread_ticks(figure: Figure) -> None:
    """Have fewer ticks where their labels would touch: long numbers in small panels."""
    for _ in range(8):
        crowded = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) if _touching(axis)]
        if sum(_has_fewer(axis) for axis in crowded) == 0:
            return
        figure.draw_without_rendering()


def label_boxes(axis: Axis) -> list[Any]:
    """Where the labels of the ticks are that one sees."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() + axis.get_minor_ticks() if low <= tick.get_loc() <= high]
    labels = [tick.label1 for tick in ticks if tick.label1.get_visible() and tick.label1.get_text()]
    return [label.get_window_extent() for label in labels] if axis.axes.get_visible() else []


def _touching(axis: Axis) -> bool:
    boxes = label_boxes(axis)
    if axis is axis.axes.xaxis:
        sides = sorted((box.x0, box.x1) for box in boxes)
    else:
        sides = sorted((box.y0, box.y1) for box in boxes)
    return any(end + APART > start for (_, end), (start, _) in pairwise(sides))


def _has_fewer(axis: Axis) -> bool:
    """Take ticks away, if that can be."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    locator = axis.get_major_locator()
    if isinstance(locator, MaxNLocator):
        count = len(axis.get_majorticklocs()) - 2
        locator.set_params(nbins=max(1, count - 1), min_n_ticks=1)
        return count > 1
    if isinstance(locator, LogLocator):
        axis.set_minor_formatter(NullFormatter())
    return isinstance(locator, LogLocator)
