"""A model beside its data: densities in the plane, samples over points, and marginals of any number of coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..cif.model import Model
from ..compute.rng import forked
from ..data.base import Box, Target
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOG_DENSITY = "$\\log\\,p(x)$ [nats]"
LOG_RANGE = 10.0  # nats below the maximum that a logarithmic scale shows
HEADROOM = 1.2  # the end of a density scale over the target's maximum
MAX_COORDINATES = 5  # whose marginals are drawn


def density_figure(
    target: Target | None,
    log_prob: Tensor,
    samples: Tensor,
    window: Box,
    title: str = "",
    *,
    data: Tensor | None = None,
    log: bool = False,
) -> Figure:
    """Target and model on one colour scale, and the model's samples beside them.

    Arguments:
        target: The true distribution; None where its density is unknown, and `data` is drawn in its place.
        log_prob: The model's log-density in nats at `grid(window, resolution)`, (resolution²,).
        samples: Points drawn from the model, (N, 2).
        data: Points of the data set, (N, 2).
        log: Colours show log p(x) rather than p(x).
    """
    densities = {} if target is None else {"target": _cell_means(target, window, math.isqrt(len(log_prob)))}
    densities["model"] = style.array(log_prob)
    points = data if target is None else None
    figure, axes = _row(len(densities) + 1 + (points is not None), title)
    if points is not None:
        style.frame(axes[0], window, "data")
        style.scatter(axes[0], points, style.DATA)
    _shade_all(axes[-1 - len(densities) : -1], densities, window, log)
    style.frame(axes[-1], window, "samples" + style.outside(samples, window))
    style.scatter(axes[-1], samples, style.MODEL)
    return figure


@torch.no_grad()
def compare_densities(
    target: Target,
    models: Mapping[str, Model],
    window: Box | None = None,
    title: str = "",
    *,
    log: bool = False,
    resolution: int = 160,
    importance_samples: int = 50,
    chunk_size: int = 10_000,
    seed: int = 0,
) -> Figure:
    """The target's density and those of several models, side by side on one colour scale.

    Arguments:
        target: The true distribution, whose maximum sets the scale.
        models: By what to call them, in eval mode; log p(x) is exact, or IWAE_m of a CIF.
        window: The box to draw; that of the target with a margin, if not given.
        log: Colours show log p(x) rather than p(x).
        resolution: Cells a side.
        importance_samples: m.
        chunk_size: Cells × importance samples evaluated at once.
        seed: Of the importance samples.
    """
    window = style.window_of(torch.empty(0, 2), target) if window is None else window
    densities = {"target": _cell_means(target, window, resolution)}
    with forked(seed):
        for label, model in models.items():
            points = style.grid(window, resolution).to(model.takes)
            densities[label] = style.array(model.log_prob(points, importance_samples, chunk_size))
    figure, axes = _row(len(densities), title)
    _shade_all(axes, densities, window, log)
    return figure


def _row(count: int, title: str) -> tuple[Figure, Sequence[Axes]]:
    figure, axes = style.panels((3.3 * count + 0.8, 3.5), title, 1, count, above=0.35, sharey=True)
    return figure, list(axes[0])


def _shade_all(axes: Sequence[Axes], densities: Mapping[str, np.ndarray], window: Box, log: bool) -> None:
    """Draw log-densities, by their titles, on one colour scale, which stands beside the last of them.

    The scale ends somewhat above the target's maximum, so that one sees where a model is too dense, or at the model's
    own where the target is unknown. Of either, the densest half percent of the mass does not count: a spike does not
    darken all the rest.
    """
    first = next(iter(densities.values()))
    top = _top(first) + (math.log(HEADROOM) if "target" in densities else 0.0)
    low, high = (top - LOG_RANGE, top) if log else (0.0, math.exp(top))
    for axis, (title, values) in zip(axes, densities.items(), strict=True):
        style.frame(axis, window, title)
        # Pixels that are minus infinity would stay blank.
        shown = np.maximum(values, top - 2 * LOG_RANGE) if log else np.exp(values)
        image = style.shade(axis, shown, window, low, high, "nearest")
    clipped = any((values > top + 1e-3).any() for values in densities.values())
    extend = ("both" if log else "max") if clipped else ("min" if log else "neither")
    style.colour_bar(axes[-1], image, LOG_DENSITY if log else style.DENSITY, extend)


def _top(log_prob: np.ndarray) -> float:
    """The log-density that all but half a percent of the mass on the grid stays below."""
    ordered = np.sort(log_prob[np.isfinite(log_prob)])
    if ordered.size == 0:
        return 0.0
    mass = np.cumsum(np.exp(ordered - ordered[-1]))
    return float(ordered[np.searchsorted(mass, 0.995 * mass[-1])])


def _cell_means(target: Target, window: Box, resolution: int) -> np.ndarray:
    """Log of the target's mean density in each cell of `grid(window, resolution)`.

    The density at a cell's centre will do, unless its sum over the grid shows that the target is thinner than a cell.
    """
    (a, b), (c, d) = window
    for finer in (1, 8):
        values = target.log_prob(style.grid(window, finer * resolution)).exp()
        if abs(values.mean().item() * (b - a) * (d - c) - 1) < 0.05:
            break
    with np.errstate(divide="ignore"):
        return np.log(style.array(values.reshape(resolution, finer, resolution, finer).mean((1, 3)).flatten()))


# --- samples ----------------------------------------------------------------------------------------------------------


def samples_figure(data: Tensor | None, samples: Tensor, window: Box, title: str = "") -> Figure:
    """Samples of the model over points of the data, in the plane.

    Arguments:
        data: Points of the data set, (N, 2); None to draw the model's samples alone.
        samples: Points drawn from the model, (M, 2).
    """
    figure, axes = style.panels((4.6, 4.6), title)
    axis = axes[0, 0]
    style.frame(axis, window)
    if data is None:
        style.scatter(axis, samples, style.MODEL)
        return figure
    number = min(len(data), len(samples))  # as many of each, or the eye compares their numbers
    style.scatter(axis, data[:number], style.DATA, label="data", scale=3.0, alpha=0.25)
    style.scatter(axis, samples[:number], style.MODEL, label="model" + style.outside(samples, window))
    style.legend(axis)
    return figure


def marginals_figure(data: Tensor | None, samples: Tensor, title: str = "") -> Figure:
    """Histograms of the first coordinates: data below the diagonal, model above it, both on it.

    Arguments:
        data: Points of the data set, (N, *event), flattened; None to draw the model's samples alone.
        samples: Points drawn from the model, (M, *event).
    """
    sets = {} if data is None else {"data": style.array(data.flatten(1))}
    sets["model"] = style.array(samples.flatten(1))
    limits = _limits(next(iter(sets.values())))
    if len(limits) > 1:
        return _pairs(sets, limits, title)
    figure, axis = style.panel((5.2, 3.8), title, style.LINE, style.DENSITY, lines=False)
    _histograms(axis, sets, 0, limits[0])
    style.legend(axis)
    return figure


def sample_png(samples: Tensor, path: Path, columns: Sequence[str] = ()) -> None:
    """Write samples as a picture: points in the plane, or marginals of what is not two-dimensional."""
    flat = samples.flatten(1)
    planar = flat.shape[1] == 2
    figure = samples_figure(None, flat, style.window_of(flat)) if planar else marginals_figure(None, flat)
    style.save(style.name_axes(figure, columns), path)


def _limits(points: np.ndarray) -> list[tuple[float, float]]:
    """The interval to draw of each of the first coordinates: the data's, so that a model with heavy tails does not
    squeeze the data into one bin."""
    low, high = np.nanquantile(points[:, :MAX_COORDINATES], [1e-3, 1 - 1e-3], axis=0)
    margin = 0.15 * np.maximum(high - low, 1e-6)
    return list(zip((low - margin).tolist(), (high + margin).tolist(), strict=True))


def _histograms(axis: Axes, sets: dict[str, np.ndarray], k: int, limits: tuple[float, float]) -> None:
    """Coordinate k of the data as a filled histogram, and of the model as a line."""
    for name, points in sets.items():
        look: dict[str, Any] = {"histtype": "step", "color": style.MODEL, "linewidth": 1.3}
        if name == "data":
            look = {"histtype": "stepfilled", "color": style.DATA, "alpha": 0.35}
        with np.errstate(invalid="ignore"):  # a histogram with no point in its range is all NaN
            axis.hist(points[:, k], bins=60, range=limits, density=True, label=name, **look)
    axis.set_xlim(limits)


def _pairs(sets: dict[str, np.ndarray], limits: list[tuple[float, float]], title: str) -> Figure:
    """A square of panels: coordinate k on the diagonal, and pairs of coordinates off it."""
    count = len(limits)
    lower, upper = next(iter(sets.values())), sets["model"]
    figure, axes = style.panels((1.9 * count + 0.6, 1.9 * count + 0.4), title, count, count)
    for (row, column), axis in np.ndenumerate(axes):
        style.bare(axis)
        axis.set_box_aspect(1)
        if row == column:
            _histograms(axis, sets, row, limits[row])
            axis.set_yticks([])
            axis.spines["left"].set_visible(False)
        elif row < column and len(sets) == 1:
            axis.set_visible(False)
        else:
            points, box = (lower if row > column else upper), (limits[column], limits[row])
            axis.hist2d(points[:, column], points[:, row], bins=50, range=box, cmap=style.COLOURS)
        axis.tick_params(labelbottom=row == count - 1, labelleft=column == 0)
        if row == count - 1:
            axis.set_xlabel(style.coordinate(column))
        if column == 0:
            axis.set_ylabel(style.coordinate(row))
    if len(sets) == 2:
        handles, _ = axes[0, 0].get_legend_handles_labels()
        labels = ["data (below the diagonal)", "model (above)"]
        figure.legend(handles, labels, loc="outside lower right", ncols=2, frameon=False, fontsize=style.TICK)
    return figure
