"""The pictures of a run: densities and samples in the plane, grids of images, marginals of any other data, and training
curves.

All are drawn with matplotlib's objects, without pyplot, so that drawing leaves no state behind and needs no display;
matplotlib is imported when the first picture is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..compute.rng import forked
from ..data.base import Target, quantize
from ..io.files import replacing

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..cif.model import Model

__all__ = [
    "Window",
    "bounds",
    "compare_densities",
    "curves",
    "curves_figure",
    "density_figure",
    "grid",
    "grid_maps",
    "images_figure",
    "index_use",
    "lattice",
    "lipschitz",
    "marginals_figure",
    "name_axes",
    "reconstructions_figure",
    "sample_png",
    "samples_figure",
    "save",
    "window_of",
]

#: ((x₁ low, x₁ high), (x₂ low, x₂ high))
Window = tuple[tuple[float, float], tuple[float, float]]

DPI = 150
COLOURS = "viridis"  # perceptually uniform, and the same to a colour-blind eye
DATA, MODEL = "#D55E00", "#0072B2"  # vermillion and blue of Okabe and Ito's palette
PALE = "#999999"
#: One of these a label, where several models are compared (Okabe and Ito's, without yellow).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
TITLE, LABEL, TICK = 12, 11, 9  # points
LINE = "$x$"  # what the coordinate of points on a line is called
DENSITY, LOG_DENSITY = "density $p(x)$", "$\\log\\,p(x)$ [nats]"
LOG_RANGE = 10.0  # nats below the maximum that a logarithmic scale shows
HEADROOM = 1.2  # the end of a density scale over the target's maximum
MAX_POINTS = 5_000
MAX_COORDINATES = 5
MAX_IMAGES, PAIRS_ACROSS = 2_500, 10
GRID_PIXELS = 900  # about, for a side of a grid of images: each pixel of an image is as many of the picture's as fit


# --- windows and grids ------------------------------------------------------------------------------------------------


def window_of(data: Tensor, target: Target | None = None, margin: float = 0.15) -> Window:
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


def grid(window: Window, resolution: int = 200) -> Tensor:
    """The centres of resolution × resolution cells that tile the window, (resolution², 2), x₂ running fastest."""
    centres = (torch.arange(resolution, dtype=torch.float64) + 0.5) / resolution
    axes = (low + (high - low) * centres for low, high in window)
    return torch.cartesian_prod(*axes).to(torch.get_default_dtype())


# --- pictures ---------------------------------------------------------------------------------------------------------


def density_figure(
    target: Target | None,
    log_prob: Tensor,
    samples: Tensor,
    window: Window,
    title: str = "",
    *,
    data: Tensor | None = None,
    log: bool = False,
) -> Figure:
    """Target and model on one colour scale, and the model's samples beside them.

    The scale ends somewhat above the target's maximum, so that one sees where the model is too dense, or at the model's
    own where the target is unknown. Of either, the densest half percent of the mass does not count: a spike does not
    darken all the rest.

    Arguments:
        target: The true distribution; None where its density is unknown, and `data` is drawn in its place.
        log_prob: The model's log-density in nats at `grid(window, resolution)`, (resolution²,).
        samples: Points drawn from the model, (N, 2).
        window: The box to draw, as for `grid`.
        title: A line above the panels.
        data: Points of the data set, (N, 2).
        log: Colours show log p(x) rather than p(x).
    """
    import numpy as np

    resolution = math.isqrt(len(log_prob))
    model = _array(log_prob)
    truth = None if target is None else _cell_means(target, window, resolution)
    top = _top(model) if truth is None or not np.isfinite(truth).any() else _top(truth) + math.log(HEADROOM)

    panels = 2 + (target is not None or data is not None)
    figure = _figure(3.3 * panels + 0.8, 3.5 + (0.35 if title else 0), title)
    axes = list(figure.subplots(1, panels, sharey=True, squeeze=False)[0])
    for axis in axes:
        _plane(axis, window)

    if truth is not None:
        _shade(axes[0], truth, window, top, log)
        axes[0].set_title("target", fontsize=TITLE)
    elif data is not None:
        _scatter(axes[0], data, DATA)
        axes[0].set_title("data", fontsize=TITLE)
    image = _shade(axes[-2], model, window, top, log)
    axes[-2].set_title("model", fontsize=TITLE)
    _scatter(axes[-1], samples, MODEL)
    axes[-1].set_title("samples" + _outside(samples, window), fontsize=TITLE)

    _density_bar(axes[-2], image, bool((model > top + 1e-3).any()), log)
    return figure


def compare_densities(
    target: Target,
    models: Mapping[str, Model],
    window: Window | None = None,
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
        title: A line above the panels.
        log: Colours show log p(x) rather than p(x).
        resolution: Cells a side.
        importance_samples: m.
        chunk_size: Cells × importance samples evaluated at once.
        seed: Of the importance samples.
    """
    window = window_of(torch.empty(0, 2), target) if window is None else window
    truth = _cell_means(target, window, resolution)
    top = _top(truth) + math.log(HEADROOM)
    panels = {"target": truth}
    with forked(seed), torch.no_grad():
        for label, model in models.items():
            points = grid(window, resolution).to(next(model.parameters()))
            panels[label] = _array(model.log_prob(points, importance_samples, chunk_size))
    figure = _figure(3.3 * len(panels) + 0.8, 3.5 + (0.35 if title else 0), title)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (label, values) in zip(axes, panels.items(), strict=True):
        _plane(axis, window)
        axis.set_title(label, fontsize=TITLE)
        image = _shade(axis, values, window, top, log)
    _density_bar(axes[-1], image, any(bool((v > top + 1e-3).any()) for v in panels.values()), log)
    return figure


def lattice(half: float = 3.0, lines: int = 13, points: int = 121) -> Tensor:
    """A square lattice over [−half, half]²: `lines` upright ones, then as many level ones, (2 · lines, points, 2)."""
    at, along = torch.linspace(-half, half, lines), torch.linspace(-half, half, points)
    upright = torch.stack(torch.meshgrid(at, along, indexing="ij"), -1)
    return torch.cat([upright, upright.flip(-1)])


def grid_maps(lines: Tensor, images: Mapping[str, Tensor], window: Window, data: Tensor, title: str = "") -> Figure:
    """A lattice of the prior's plane, and where maps x = F(z; u) take it.

    Arguments:
        lines: Of z-space, (count, points, 2), the first half of them upright, as `lattice` gives them.
        images: By what to call each map, F(lines; u), of the same shape.
        window: The box of x to draw.
        data: Points of the data set, which lie below the lines, (N, 2).
        title: A line above the panels.
    """
    from matplotlib.collections import LineCollection

    figure = _figure(3.2 * (1 + len(images)) + 0.3, 3.4 + (0.35 if title else 0), title)
    axes = figure.subplots(1, 1 + len(images), squeeze=False)[0]
    half = 1.1 * lines.abs().max().item()
    panels = [("$z$-space", lines, ((-half, half), (-half, half)), "z")]
    panels += [(label, image, window, "x") for label, image in images.items()]
    for axis, (label, image, box, letter) in zip(axes, panels, strict=True):
        _plane(axis, box)
        axis.set_title(label, fontsize=TITLE)
        axis.set_xlabel(_coordinate(0, letter), fontsize=LABEL)
        labelled = letter == "z" or axis is axes[1]
        axis.set_ylabel(_coordinate(1, letter) if labelled else "", fontsize=LABEL, labelpad=1)
        axis.tick_params(labelleft=labelled)
        if letter == "x":
            _scatter(axis, data[:2000], PALE, alpha=0.3)
        curves = list(_array(image))
        for part, colour in ((curves[: len(curves) // 2], MODEL), (curves[len(curves) // 2 :], DATA)):
            axis.add_collection(LineCollection(part, colors=colour, linewidths=0.8, alpha=0.9))
    return figure


def index_use(panels: Sequence[tuple[str, Tensor, Tensor]], window: Window, data: Tensor, title: str = "") -> Figure:
    """Where an index works: mean and standard deviation of u over x, a row for each step.

    Arguments:
        panels: For each step, what to call it, and mean and standard deviation of u under q at the points of
            `grid(window, resolution)`, (resolution²,).
        window: The box to draw.
        data: Points of the data set, which lie over the colours, (N, 2).
        title: A line above the panels.
    """
    figure = _figure(8.4, 3.5 * len(panels) + (0.35 if title else 0), title)
    rows = figure.subplots(len(panels), 2, sharex=True, sharey=True, squeeze=False)
    for row, (name, mean, spread) in zip(rows, panels, strict=True):
        for axis, values, what in ((row[0], mean, "mean of $u$"), (row[1], spread, "standard deviation of $u$")):
            _plane(axis, window)
            axis.set_title(name, fontsize=TITLE)
            resolution = math.isqrt(len(values))
            pixels = _array(values).reshape(resolution, resolution).T
            style: dict[str, Any] = {"cmap": COLOURS, "vmin": 0.0}
            if axis is row[0]:  # the mean has a middle, so its colours have one
                most = float(abs(pixels).max()) or 1.0
                style = {"cmap": "PuOr", "vmin": -most, "vmax": most}
            box = (*window[0], *window[1])
            image = axis.imshow(pixels, origin="lower", extent=box, aspect="auto", interpolation="bilinear", **style)
            _scatter(axis, data[:1500], "white" if axis is row[1] else "black", alpha=0.35, scale=0.6)
            _bar(axis, image, what)
    return figure


def curves(
    runs: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]],
    title: str = "",
    *,
    tag: str = "valid/log_likelihood",
    ylabel: str = "validation log-likelihood [nats per datum]",
    truth: float | None = None,
    log: bool = False,
) -> Figure:
    """A number over the steps of training: its mean over seeds as a line, and their range as a band.

    Arguments:
        runs: By what to call them, the rows of `metrics.jsonl` of each seed. Drawn are the steps that all seeds have.
        title: A line above the panel.
        tag: Which number.
        ylabel: What to call it, with its unit.
        truth: A level to mark: what a perfect model reaches.
        log: A logarithmic scale.
    """
    import numpy as np

    figure = _figure(6.0, 3.8, title)
    axis = figure.subplots()
    _bare(axis)
    shown: list[float] = []
    for colour, (label, seeds) in zip(_colours(len(runs)), runs.items(), strict=True):
        each = [points for rows in seeds if (points := dict(zip(*_curve(rows, tag), strict=True)))]
        steps = sorted(set.intersection(*map(set, each))) if each else []
        if not steps:
            continue
        values = np.array([[points[step] for step in steps] for points in each])
        several = f", {len(each)} seeds" if len(each) > 1 else ""
        axis.plot(steps, values.mean(0), color=colour, linewidth=1.8, label=label + several)
        if several:
            axis.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.25, linewidth=0)
        # The first steps are often far below all others: the scale is that of the last nine tenths.
        shown += values[:, len(steps) // 10 :].flatten().tolist()
    if truth is not None:
        axis.axhline(truth, color=PALE, linewidth=1.2, linestyle="--", label="truth")
        shown.append(truth)
    if log:
        _log_scale(axis)
    elif shown:
        pad = 0.06 * (max(shown) - min(shown)) or 0.1
        axis.set_ylim(min(shown) - pad, max(shown) + pad)
    if shown:
        axis.set_xlim(left=0)
        _legend(axis)
    _level_lines(axis)
    axis.set_xlabel("step", fontsize=LABEL)
    axis.set_ylabel(ylabel, fontsize=LABEL)
    return figure


def lipschitz(runs: Mapping[str, Sequence[Mapping[str, float]]], title: str = "") -> Figure:
    """Lipschitz constants against depth, and the ceiling that an architecture sets.

    Arguments:
        runs: By what to call them, the rows "lipschitz_by_depth" of a test result.
        title: A line above the panel.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _figure(6.2, 3.9, title)
    axis = figure.subplots()
    _bare(axis)
    axis.set_yscale("log")
    ceilings: set[tuple[float, ...]] = set()
    for colour, (label, rows) in zip(_colours(len(runs)), runs.items(), strict=True):
        depth = [row["depth"] for row in rows]
        before = f"{label}: " if label else ""
        for key, symbol, style in (("lip_f", "Lip $F$", "o-"), ("lip_f_inverse", "Lip $F^{-1}$", "s--")):
            values = [row[key] for row in rows]
            axis.plot(depth, values, style, color=colour, linewidth=1.6, markersize=4, label=before + symbol)
        ceiling = tuple(row["ceiling"] for row in rows if "ceiling" in row)
        if ceiling and ceiling not in ceilings:
            axis.plot(depth, ceiling, color="#555555", linewidth=1.6, linestyle=":", label=f"{before}ceiling")
            ceilings.add(ceiling)
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 0.8), max(high, 3.0))
    _log_scale(axis)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _level_lines(axis)
    axis.set_xlabel("depth [steps from the data]", fontsize=LABEL)
    axis.set_ylabel("Lipschitz constant, at least", fontsize=LABEL)
    _legend(axis, markerscale=1.0)
    return figure


def bounds(curve: Sequence[Mapping[str, float]], bracket: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """The estimate IWAE_m against m: how much it still rises, and between what log p(x) lies on the model's own draws.

    Arguments:
        curve, bracket: The rows "iwae_curve" and "bracket" of a test result.
        title: A line above the panels.
    """
    from matplotlib.ticker import StrMethodFormatter

    figure = _figure(8.8, 3.7 + (0.3 if title else 0), title)
    left, right = figure.subplots(1, 2)
    style: dict[str, Any] = {"linewidth": 1.6, "markersize": 4, "capsize": 2.5, "elinewidth": 1.0}
    for axis in (left, right):
        _bare(axis)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_xlabel("importance samples $m$", fontsize=LABEL)
        _level_lines(axis)
    values = [-row["below"] for row in curve]
    left.errorbar([r["m"] for r in curve], values, [r["below_se"] for r in curve], fmt="o-", color=MODEL, **style)
    left.set_title("test data", fontsize=TITLE)
    left.set_ylabel(rf"$\mathrm{{IWAE}}_m - \mathrm{{IWAE}}_{{{curve[-1]['m']:g}}}$ [nats]", fontsize=LABEL)
    middle = (bracket[-1]["lower"] + bracket[-1]["upper"]) / 2
    # What differs from datum to datum moves both bounds together; the bars show the error of what is between them.
    for name, colour, form in (("upper", DATA, "s--"), ("lower", MODEL, "o-")):
        values = [row[name] - middle for row in bracket]
        errors = [row["gap_se"] / 2 for row in bracket]
        label = {"upper": "upper bound", "lower": r"lower bound, $\mathrm{IWAE}_m$"}[name]
        places = [row["m"] * (1.04 if name == "upper" else 0.96) for row in bracket]  # one bar does not hide the other
        right.errorbar(places, values, errors, fmt=form, color=colour, label=label, **style)
    right.set_title("the model's own draws", fontsize=TITLE)
    sign = "+" if middle < 0 else "−"
    right.set_ylabel(rf"bound on $\log\,p(x)$ {sign} {abs(middle):.3f} [nats]", fontsize=LABEL)
    _legend(right, markerscale=1.0)
    return figure


def samples_figure(data: Tensor, samples: Tensor, window: Window, title: str = "") -> Figure:
    """Samples of the model over points of the data, in the plane."""
    figure = _figure(4.6, 4.6, title)
    axis = figure.subplots()
    _plane(axis, window)
    number = min(len(data), len(samples))  # as many of each, or the eye compares their numbers
    _scatter(axis, data[:number], DATA, label="data", scale=3.0, alpha=0.25)
    _scatter(axis, samples[:number], MODEL, label="model" + _outside(samples, window))
    _legend(axis)
    return figure


def marginals_figure(
    data: Tensor | None, samples: Tensor, title: str = "", *, density: tuple[Tensor, Tensor] | None = None
) -> Figure:
    """Histograms of the first coordinates: data below the diagonal, model above it, both on it.

    Arguments:
        data: Points of the data set, (N, *event), flattened; None to draw the model's samples alone.
        samples: Points drawn from the model, (M, *event).
        title: A line above the panels.
        density: For data of one dimension, points on the line, (K,), and the model's log-density there in nats, (K,).
    """
    import numpy as np

    sets = [("model", MODEL, _array(samples.flatten(1)))]
    if data is not None:
        sets.insert(0, ("data", DATA, _array(data.flatten(1))))
    # The box is the data's: a model with heavy tails does not squeeze the data into one bin.
    first = sets[0][2]
    count = min(first.shape[1], MAX_COORDINATES)
    low, high = np.nanquantile(first[:, :count], [1e-3, 1 - 1e-3], axis=0)
    margin = 0.15 * np.maximum(high - low, 1e-6)
    limits = list(zip((low - margin).tolist(), (high + margin).tolist(), strict=True))

    def histograms(axis: Axes, k: int) -> None:
        style: dict[str, Any] = {"bins": 60, "range": limits[k], "density": True}
        for name, colour, points in sets:
            filled: dict[str, Any] = {"histtype": "stepfilled", "alpha": 0.35} if name == "data" else {"linewidth": 1.3}
            with np.errstate(invalid="ignore"):  # a histogram with no point in its range is all NaN
                axis.hist(points[:, k], color=colour, label=name, **{"histtype": "step", **style, **filled})

    if count == 1:
        figure = _figure(5.2, 3.8, title)
        axis = figure.subplots()
        _bare(axis)
        histograms(axis, 0)
        if density is not None:
            points, values = map(_array, density)
            axis.plot(points, np.exp(values), color=MODEL, linewidth=1.5, linestyle="--", label="model's density")
        axis.set_xlim(limits[0])
        axis.set_xlabel(LINE, fontsize=LABEL)
        axis.set_ylabel(DENSITY, fontsize=LABEL)
        _legend(axis)
        return figure

    figure = _figure(1.9 * count + 0.6, 1.9 * count + 0.4, title)
    panels = figure.subplots(count, count, squeeze=False)
    for row in range(count):
        for column in range(count):
            axis = panels[row, column]
            _bare(axis)
            axis.set_box_aspect(1)
            if row == column:
                histograms(axis, row)
                axis.set_yticks([])
                axis.spines["left"].set_visible(False)
            elif row < column and len(sets) == 1:
                axis.set_visible(False)
            else:
                points = sets[0 if row > column else 1][2]
                box = (limits[column], limits[row])
                axis.hist2d(points[:, column], points[:, row], bins=50, range=box, cmap=COLOURS)
                axis.set_ylim(limits[row])
            axis.set_xlim(limits[column])
            axis.tick_params(labelbottom=row == count - 1, labelleft=column == 0)
            if row == count - 1:
                axis.set_xlabel(_coordinate(column), fontsize=LABEL)
            if column == 0:
                axis.set_ylabel(_coordinate(row), fontsize=LABEL)
    if len(sets) == 2:
        handles, _ = panels[0, 0].get_legend_handles_labels()
        labels = ["data (below the diagonal)", "model (above)"]
        figure.legend(handles, labels, loc="outside lower right", ncols=2, frameon=False, fontsize=TICK)
    return figure


def curves_figure(metrics: Sequence[Mapping[str, Any]], title: str = "", *, truth: float | None = None) -> Figure:
    """Log-likelihood over the steps of training: the ELBO of each batch and the validation set's IWAE.

    Arguments:
        metrics: Rows of `metrics.jsonl`; those with "train/elbo" and with "valid/log_likelihood" are drawn.
        title: A line above the panel.
        truth: E[log p*(x)] in nats where it is known: what a perfect model reaches.
    """
    figure = _figure(6.0, 3.8, title)
    axis = figure.subplots()
    _bare(axis)
    shown: list[float] = []
    for tag, label, colour, width in (
        ("train/elbo", "training, ELBO", PALE, 1.0),
        ("valid/log_likelihood", "validation, log-likelihood", MODEL, 1.8),
    ):
        steps, values = _curve(metrics, tag)
        if values:
            axis.plot(steps, values, label=label, color=colour, linewidth=width)
            # The first steps are often far below all others: the scale is that of the last nine tenths.
            shown += sorted(values[len(values) // 10 :])[len(values) // 50 :]
    if truth is not None and shown:
        axis.axhline(truth, color=DATA, linewidth=1.2, linestyle="--", label="truth")
        shown.append(truth)
    if shown:
        low, high = min(shown), max(shown)
        pad = 0.06 * (high - low) or 0.1
        axis.set_ylim(low - pad, high + pad)
        axis.set_xlim(left=0)
        _legend(axis)
    _level_lines(axis)
    axis.set_xlabel("step", fontsize=LABEL)
    axis.set_ylabel("nats per datum", fontsize=LABEL)
    return figure


def images_figure(
    images: Tensor, levels: int, title: str = "", *, columns: int | None = None, together: int | None = None
) -> Figure:
    """Images in a grid, row by row, a hair apart: grey for one channel, colour for three, else a row for each channel.

    A pixel of an image is a square of whole pixels of the picture, so that nothing is blurred.

    Arguments:
        images: uint8, (N, C, H, W), of which at most `MAX_IMAGES` are drawn.
        levels: Level 0 is black, and levels − 1 is white.
        title: A line above the grid.
        columns: Images in a row; None for a square.
        together: Rows between wider gaps; None for no such gaps.
    """
    if images.shape[1] not in (1, 3):
        images = images.flatten(0, 1)[:, None]
    images = images[:MAX_IMAGES]
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    zoom = max(1, GRID_PIXELS // (columns * width))
    gap = max(2, zoom * width // 24)
    tall, wide = zoom * height + gap, zoom * width + gap
    tops = [row * tall + (row // together * 4 * gap if together else 0) for row in range(rows)]
    canvas = torch.ones(tops[-1] + zoom * height, columns * wide - gap, channels)
    shades = (images.float() / (levels - 1)).movedim(1, 3)
    for k, image in enumerate(shades.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)):
        row, column = divmod(k, columns)
        canvas[tops[row] : tops[row] + zoom * height, column * wide : column * wide + zoom * width] = image
    return _exact_figure(canvas.expand(-1, -1, 3), title)


def reconstructions_figure(data: Tensor, again: Tensor, levels: int, title: str = "") -> Figure:
    """Images, and below each what came back of it from the prior; the title tells the largest difference.

    Arguments:
        data: What the model was given, in grey levels, (N, C, H, W).
        again: What came back, of the same shape.
        levels: As for `images_figure`.
        title: A line above the grid.
    """
    columns = min(len(data), PAIRS_ACROSS)
    count = len(data) // columns * columns
    blocks = zip(data[:count].split(columns), again[:count].split(columns), strict=True)
    error = (data - again).abs().max().item()
    lines = [title, f"data (above) and what the inverse gives back (below): they differ by ≤ {error:.1e} grey levels"]
    pairs = torch.cat([part for block in blocks for part in block])
    return images_figure(quantize(pairs, levels), levels, "\n".join(lines), columns=columns, together=2)


def sample_png(samples: Tensor, path: Path, columns: Sequence[str] = ()) -> None:
    """Samples as a picture: points in the plane, or marginals of what is not two-dimensional."""
    flat = samples.flatten(1)
    if flat.shape[1] == 2:
        figure = _figure(4.6, 4.6)
        axis = figure.subplots()
        _plane(axis, window_of(flat))
        _scatter(axis, flat, MODEL)
    else:
        figure = marginals_figure(None, flat)
    save(name_axes(figure, columns), path)


def name_axes(figure: Figure, columns: Sequence[str]) -> Figure:
    """Write the names of a table's columns, if it has any, where axes are called x, or x₁, x₂, …; the same figure."""
    names = {_coordinate(k): name.replace("$", r"\$") for k, name in enumerate(columns)}
    if len(columns) == 1:
        names[LINE] = names[_coordinate(0)]
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set_text(names.get(axis.label.get_text(), axis.label.get_text()))
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure; the file's ending says the format. Raises `RunError` if it can't be written."""
    figure.draw_without_rendering()  # square panels take the layout a second pass to settle
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png")


# --- parts of pictures ------------------------------------------------------------------------------------------------


def _shade(axis: Axes, values: np.ndarray, window: Window, top: float, log: bool) -> Any:
    """Log-densities on `grid(window, …)` as an image whose scale ends at `top`."""
    import numpy as np

    # Pixels that are minus infinity would stay blank.
    pixels = np.maximum(values, top - 2 * LOG_RANGE) if log else np.exp(values)
    resolution = math.isqrt(len(values))
    return axis.imshow(
        pixels.reshape(resolution, resolution).T,
        origin="lower",
        extent=(*window[0], *window[1]),
        aspect="auto",
        cmap=COLOURS,
        vmin=top - LOG_RANGE if log else 0.0,
        vmax=top if log else math.exp(top),
        interpolation="nearest",
    )


def _density_bar(axis: Axes, image: Any, clipped: bool, log: bool) -> None:
    extend = ("both" if log else "max") if clipped else ("min" if log else "neither")
    _bar(axis, image, LOG_DENSITY if log else DENSITY, extend)


def _bar(axis: Axes, image: Any, label: str, extend: str = "neither") -> None:
    """The colour scale of an image, at the right side of its axis."""
    beside = axis.inset_axes((1.04, 0.0, 0.05, 1.0))
    bar = axis.figure.colorbar(image, cax=beside, extend=extend)
    bar.set_label(label, fontsize=LABEL, labelpad=8)
    bar.ax.tick_params(labelsize=TICK)
    bar.outline.set_visible(False)


def _log_scale(axis: Axes) -> None:
    """A logarithmic scale of what is drawn, with plain numbers; 2 and 5 are among them if it is short."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_yscale("log")
    low, high = axis.get_ylim()
    plain = StrMethodFormatter("{x:g}")
    axis.yaxis.set_major_formatter(plain)
    axis.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    axis.yaxis.set_minor_formatter(plain if high < 1000 * low else NullFormatter())
    axis.tick_params(which="minor", labelsize=TICK)


def _level_lines(axis: Axes) -> None:
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)


def _colours(count: int) -> list[str]:
    return [PALETTE[k % len(PALETTE)] for k in range(count)]


# --- the style --------------------------------------------------------------------------------------------------------


def _figure(width: float, height: float, title: str = "") -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(h_pad=0.08)
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")
    if title:
        figure.suptitle(title, fontsize=TITLE + 1)
    return figure


def _exact_figure(canvas: Tensor, title: str) -> Figure:
    """A canvas, (height, width, 3), pixel by pixel, with a margin of white and a title above it."""
    from matplotlib.figure import Figure

    margin, (height, width, _) = 24, canvas.shape
    lines = title.splitlines()
    line = int(DPI * TITLE / 72 * 1.5)
    head = line * len(lines)
    size = (width + 2 * margin, height + 2 * margin + head)
    figure = Figure(figsize=(size[0] / DPI, size[1] / DPI), dpi=DPI, facecolor="white")
    axis = figure.add_axes((margin / size[0], margin / size[1], width / size[0], height / size[1]))
    axis.imshow(_array(canvas), interpolation="nearest", aspect="auto", vmin=0, vmax=1)
    axis.set_axis_off()
    for k, text in enumerate(lines):
        top = 1 - (margin / 2 + k * line) / size[1]
        figure.text(0.5, top, text, ha="center", va="top", fontsize=TICK if k else TITLE)
    return figure


def _bare(axis: Axes) -> None:
    axis.tick_params(labelsize=TICK)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _coordinate(k: int, letter: str = "x") -> str:
    """What an axis is called."""
    return f"${letter}_{{{k + 1}}}$"


def _plane(axis: Axes, window: Window) -> None:
    axis.set_xlim(window[0])
    axis.set_ylim(window[1])
    axis.set_box_aspect(1)  # an equal aspect, since `window_of` gives squares where the scales allow
    axis.locator_params(nbins=5)
    axis.set_xlabel(_coordinate(0), fontsize=LABEL)
    axis.set_ylabel(_coordinate(1), fontsize=LABEL)
    axis.label_outer()
    axis.tick_params(labelsize=TICK)
    for spine in axis.spines.values():
        spine.set_linewidth(0.6)


def _scatter(
    axis: Axes, points: Tensor, colour: str, label: str = "", *, scale: float = 1.0, alpha: float = 0.5
) -> None:
    xy = _array(points[:MAX_POINTS].reshape(-1, 2))
    size = min(12.0, 3.0 + 2_000 / max(len(xy), 1))
    style: dict[str, Any] = {"color": colour, "alpha": alpha, "linewidths": 0, "label": label}
    axis.scatter(xy[:, 0], xy[:, 1], s=scale * size, rasterized=True, **style)  # a PDF need not hold each dot


def _legend(axis: Axes, markerscale: float = 3.0) -> None:
    from matplotlib.collections import PathCollection

    legend = axis.legend(frameon=False, fontsize=TICK, markerscale=markerscale)
    for handle in legend.legend_handles:
        if isinstance(
            handle, PathCollection
        ):  # dots of a scatter are pale because they overlap; one in a legend is not
            handle.set_alpha(1.0)


def _outside(points: Tensor, window: Window) -> str:
    """`" (1.2 % outside)"` when the picture leaves out more than one sample in a thousand."""
    low, high = torch.tensor(window, dtype=points.dtype, device=points.device).unbind(1)
    inside = ((points >= low) & (points <= high)).all(1)
    share = 1.0 - inside.double().mean().item() if len(points) else 0.0
    return f" ({100 * share:.1f} % outside)" if share > 1e-3 else ""


def _top(log_prob: np.ndarray) -> float:
    """The log-density that all but half a percent of the mass on the grid stays below."""
    import numpy as np

    ordered = np.sort(log_prob[np.isfinite(log_prob)])
    if ordered.size == 0:
        return 0.0
    mass = np.cumsum(np.exp(ordered - ordered[-1]))
    return float(ordered[np.searchsorted(mass, 0.995 * mass[-1])])


def _cell_means(target: Target, window: Window, resolution: int) -> np.ndarray:
    """Log of the target's mean density in each cell of `grid(window, resolution)`.

    The density at a cell's centre will do, unless its sum over the grid shows that the target is thinner than a cell.
    """
    import numpy as np

    (a, b), (c, d) = window
    for finer in (1, 8):
        values = target.log_prob(grid(window, finer * resolution).double()).exp()
        if abs(values.mean().item() * (b - a) * (d - c) - 1) < 0.05:
            break
    with np.errstate(divide="ignore"):
        return np.log(_array(values.reshape(resolution, finer, resolution, finer).mean((1, 3)).flatten()))


def _curve(metrics: Sequence[Mapping[str, Any]], tag: str) -> tuple[list[float], list[float]]:
    points = [(row["step"], row[tag]) for row in metrics if row.get(tag) is not None]
    return [step for step, _ in points], [value for _, value in points]


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()
