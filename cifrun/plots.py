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

from .data.base import Target, quantize
from .files import replacing

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Window",
    "curves_figure",
    "density_figure",
    "grid",
    "images_figure",
    "marginals_figure",
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
TITLE, LABEL, TICK = 12, 11, 9  # points
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

    def shade(axis: Axes, values: np.ndarray) -> Any:
        # Pixels that are minus infinity would stay blank.
        pixels = np.maximum(values, top - 2 * LOG_RANGE) if log else np.exp(values)
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

    if truth is not None:
        shade(axes[0], truth)
        axes[0].set_title("target", fontsize=TITLE)
    elif data is not None:
        _scatter(axes[0], data, DATA)
        axes[0].set_title("data", fontsize=TITLE)
    image = shade(axes[-2], model)
    axes[-2].set_title("model", fontsize=TITLE)
    _scatter(axes[-1], samples, MODEL)
    axes[-1].set_title("samples" + _outside(samples, window), fontsize=TITLE)

    beside = axes[-2].inset_axes((1.04, 0.0, 0.05, 1.0))
    clipped = bool((model > top + 1e-3).any())
    extend = ("both" if log else "max") if clipped else ("min" if log else "neither")
    bar = figure.colorbar(image, cax=beside, extend=extend)
    bar.set_label(LOG_DENSITY if log else DENSITY, fontsize=LABEL, labelpad=8)
    bar.ax.tick_params(labelsize=TICK)
    bar.outline.set_visible(False)
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
        axis.set_xlabel("$x$", fontsize=LABEL)
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
                axis.set_xlabel(f"$x_{{{column + 1}}}$", fontsize=LABEL)
            if column == 0:
                axis.set_ylabel(f"$x_{{{row + 1}}}$", fontsize=LABEL)
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
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
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


def sample_png(samples: Tensor, path: Path) -> None:
    """Samples as a picture: points in the plane, or marginals of what is not two-dimensional."""
    flat = samples.flatten(1)
    if flat.shape[1] == 2:
        figure = _figure(4.6, 4.6)
        axis = figure.subplots()
        _plane(axis, window_of(flat))
        _scatter(axis, flat, MODEL)
    else:
        figure = marginals_figure(None, flat)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure; the file's ending says the format. Raises `RunError` if it can't be written."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png")


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


def _plane(axis: Axes, window: Window) -> None:
    axis.set_xlim(window[0])
    axis.set_ylim(window[1])
    axis.set_box_aspect(1)  # an equal aspect, since `window_of` gives squares where the scales allow
    axis.locator_params(nbins=5)
    axis.set_xlabel("$x_1$", fontsize=LABEL)
    axis.set_ylabel("$x_2$", fontsize=LABEL)
    axis.label_outer()
    axis.tick_params(labelsize=TICK)
    for spine in axis.spines.values():
        spine.set_linewidth(0.6)


def _scatter(
    axis: Axes, points: Tensor, colour: str, label: str = "", *, scale: float = 1.0, alpha: float = 0.5
) -> None:
    xy = _array(points[:MAX_POINTS].reshape(-1, 2))
    size = min(12.0, 3.0 + 2_000 / max(len(xy), 1))
    axis.scatter(xy[:, 0], xy[:, 1], s=scale * size, color=colour, alpha=alpha, linewidths=0, label=label)


def _legend(axis: Axes) -> None:
    from matplotlib.collections import PathCollection

    legend = axis.legend(frameon=False, fontsize=TICK, markerscale=3)
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
