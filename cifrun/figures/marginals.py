"""Samples of a model over the data: as points in the plane, or as marginals, one and two coordinates at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..data.base import Box
from .plane import frame, outside, scatter, window_of
from .style import (
    COLOURS,
    DATA,
    DENSITY,
    LINE,
    MODEL,
    TICK,
    array,
    bare,
    coordinate,
    legend,
    name_axes,
    panel,
    panels,
    save,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["marginals_figure", "sample_png", "samples_figure"]

MAX_COORDINATES = 5


def samples_figure(data: Tensor | None, samples: Tensor, window: Box, title: str = "") -> Figure:
    """Samples of the model over points of the data, in the plane.

    Arguments:
        data: Points of the data set, (N, 2); None to draw the model's samples alone.
        samples: Points drawn from the model, (M, 2).
        window: The box to draw.
        title: A line above the panel.
    """
    figure, axes = panels((4.6, 4.6), title)
    axis = axes[0, 0]
    frame(axis, window)
    if data is None:
        scatter(axis, samples, MODEL)
        return figure
    number = min(len(data), len(samples))  # as many of each, or the eye compares their numbers
    scatter(axis, data[:number], DATA, label="data", scale=3.0, alpha=0.25)
    scatter(axis, samples[:number], MODEL, label="model" + outside(samples, window))
    legend(axis)
    return figure


def marginals_figure(data: Tensor | None, samples: Tensor, title: str = "") -> Figure:
    """Histograms of the first coordinates: data below the diagonal, model above it, both on it.

    Arguments:
        data: Points of the data set, (N, *event), flattened; None to draw the model's samples alone.
        samples: Points drawn from the model, (M, *event).
        title: A line above the panels.
    """
    sets = {} if data is None else {"data": array(data.flatten(1))}
    sets["model"] = array(samples.flatten(1))
    limits = _limits(next(iter(sets.values())))
    if len(limits) > 1:
        return _pairs(sets, limits, title)
    figure, axis = panel((5.2, 3.8), title, LINE, DENSITY, lines=False)
    _histograms(axis, sets, 0, limits[0])
    legend(axis)
    return figure


def sample_png(samples: Tensor, path: Path, columns: Sequence[str] = ()) -> None:
    """Write samples as a picture: points in the plane, or marginals of what is not two-dimensional."""
    flat = samples.flatten(1)
    planar = flat.shape[1] == 2
    figure = samples_figure(None, flat, window_of(flat)) if planar else marginals_figure(None, flat)
    save(name_axes(figure, columns), path)


def _limits(points: np.ndarray) -> list[tuple[float, float]]:
    """The interval to draw of each of the first coordinates: the data's, so that a model with heavy tails does not
    squeeze the data into one bin."""
    low, high = np.nanquantile(points[:, :MAX_COORDINATES], [1e-3, 1 - 1e-3], axis=0)
    margin = 0.15 * np.maximum(high - low, 1e-6)
    return list(zip((low - margin).tolist(), (high + margin).tolist(), strict=True))


def _histograms(axis: Axes, sets: dict[str, np.ndarray], k: int, limits: tuple[float, float]) -> None:
    """Coordinate k of the data as a filled histogram, and of the model as a line."""
    for name, points in sets.items():
        style: dict[str, Any] = {"histtype": "step", "color": MODEL, "linewidth": 1.3}
        if name == "data":
            style = {"histtype": "stepfilled", "color": DATA, "alpha": 0.35}
        with np.errstate(invalid="ignore"):  # a histogram with no point in its range is all NaN
            axis.hist(points[:, k], bins=60, range=limits, density=True, label=name, **style)
    axis.set_xlim(limits)


def _pairs(sets: dict[str, np.ndarray], limits: list[tuple[float, float]], title: str) -> Figure:
    """A square of panels: coordinate k on the diagonal, and pairs of coordinates off it."""
    count = len(limits)
    lower, upper = next(iter(sets.values())), sets["model"]
    figure, axes = panels((1.9 * count + 0.6, 1.9 * count + 0.4), title, count, count)
    for (row, column), axis in np.ndenumerate(axes):
        bare(axis)
        axis.set_box_aspect(1)
        if row == column:
            _histograms(axis, sets, row, limits[row])
            axis.set_yticks([])
            axis.spines["left"].set_visible(False)
        elif row < column and len(sets) == 1:
            axis.set_visible(False)
        else:
            points, box = (lower if row > column else upper), (limits[column], limits[row])
            axis.hist2d(points[:, column], points[:, row], bins=50, range=box, cmap=COLOURS)
        axis.tick_params(labelbottom=row == count - 1, labelleft=column == 0)
        if row == count - 1:
            axis.set_xlabel(coordinate(column))
        if column == 0:
            axis.set_ylabel(coordinate(row))
    if len(sets) == 2:
        handles, _ = axes[0, 0].get_legend_handles_labels()
        labels = ["data (below the diagonal)", "model (above)"]
        figure.legend(handles, labels, loc="outside lower right", ncols=2, frameon=False, fontsize=TICK)
    return figure
