"""What diagnostics found: Lipschitz constants, bounds on log p(x), maps F(·; u) of a lattice, and where u works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data.base import Box
from . import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def lipschitz_figure(runs: Mapping[str, Sequence[Mapping[str, float]]], title: str = "") -> Figure:
    """Lipschitz constants against depth, and the ceiling that an architecture sets.

    Arguments:
        runs: By what to call them, the rows "lipschitz_by_depth" of a test result.
    """
    figure, axis = style.panel((6.2, 3.9), title, "depth [steps from the data]", "Lipschitz constant, at least")
    from matplotlib.ticker import MaxNLocator

    axis.set_yscale("log")
    ceilings: set[tuple[float, ...]] = set()
    for colour, (label, rows) in zip(cycle(style.PALETTE), runs.items(), strict=False):
        depth = [row["depth"] for row in rows]
        before = f"{label}: " if label else ""
        for key, symbol, look in (("lip_f", "Lip $F$", "o-"), ("lip_f_inverse", "Lip $F^{-1}$", "s--")):
            values = [row[key] for row in rows]
            axis.plot(depth, values, look, color=colour, linewidth=1.6, markersize=4, label=before + symbol)
        ceiling = tuple(row["ceiling"] for row in rows if "ceiling" in row)
        if ceiling and ceiling not in ceilings:
            axis.plot(depth, ceiling, color="#555555", linewidth=1.6, linestyle=":", label=f"{before}ceiling")
            ceilings.add(ceiling)
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 0.8), max(high, 3.0))
    style.log_scale(axis)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.legend(axis, markerscale=1.0)
    return figure


def bounds_figure(
    curve: Sequence[Mapping[str, float]], bracket: Sequence[Mapping[str, float]], title: str = ""
) -> Figure:
    """The estimate IWAE_m against m: how much it still rises, and between what log p(x) lies on the model's own draws.

    Arguments:
        curve, bracket: The rows "iwae_curve" and "bracket" of a test result.
    """
    figure, axes = style.panels((8.8, 3.7), title, 1, 2, above=0.3)
    from matplotlib.ticker import StrMethodFormatter

    look: dict[str, Any] = {"linewidth": 1.6, "markersize": 4, "capsize": 2.5, "elinewidth": 1.0}
    left, right = axes[0]
    for axis, name in ((left, "test data"), (right, "the model's own draws")):
        style.bare(axis, lines=True)
        axis.set(xscale="log", xlabel="importance samples $m$", title=name)
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    values = [-row["below"] for row in curve]
    left.errorbar([r["m"] for r in curve], values, [r["below_se"] for r in curve], fmt="o-", color=style.MODEL, **look)
    left.set_ylabel(rf"$\mathrm{{IWAE}}_m - \mathrm{{IWAE}}_{{{curve[-1]['m']:g}}}$ [nats]")
    middle = (bracket[-1]["lower"] + bracket[-1]["upper"]) / 2
    # What differs from datum to datum moves both bounds together; the bars show the error of what is between them.
    errors = [row["gap_se"] / 2 for row in bracket]
    for key, label, colour, form, shift in (  # shifted, so that no bar hides another
        ("upper", "upper bound", style.DATA, "s--", 1.04),
        ("lower", r"lower bound, $\mathrm{IWAE}_m$", style.MODEL, "o-", 0.96),
    ):
        values = [row[key] - middle for row in bracket]
        places = [shift * row["m"] for row in bracket]
        right.errorbar(places, values, errors, fmt=form, color=colour, label=label, **look)
    sign = "+" if middle < 0 else "−"
    right.set_ylabel(rf"bound on $\log\,p(x)$ {sign} {abs(middle):.3f} [nats]")
    style.legend(right, markerscale=1.0)
    return figure


def lattice(half: float = 3.0, lines: int = 13, points: int = 121) -> Tensor:
    """A square lattice over [−half, half]²: `lines` upright ones, then as many level ones, (2 · lines, points, 2)."""
    at, along = torch.linspace(-half, half, lines), torch.linspace(-half, half, points)
    upright = torch.stack(torch.meshgrid(at, along, indexing="ij"), -1)
    return torch.cat([upright, upright.flip(-1)])


def maps_figure(lines: Tensor, images: Mapping[str, Tensor], window: Box, data: Tensor, title: str = "") -> Figure:
    """A lattice of the prior's plane, and where maps x = F(z; u) take it.

    Arguments:
        lines: Of z-space, (count, points, 2), the first half of them upright, as `lattice` gives them.
        images: By what to call each map, F(lines; u), of the same shape.
        window: The box of x to draw.
        data: Points of the data set, which lie below the lines, (N, 2).
    """
    from matplotlib.collections import LineCollection

    columns = 1 + len(images)
    figure, axes = style.panels((3.2 * columns + 0.3, 3.4), title, 1, columns, above=0.35)
    half = 1.1 * lines.abs().max().item()
    for k, (axis, (label, image)) in enumerate(zip(axes[0], {"$z$-space": lines, **images}.items(), strict=True)):
        style.frame(axis, window if k else ((-half, half), (-half, half)), label)
        axis.set_xlabel(style.coordinate(0, "x" if k else "z"))
        axis.set_ylabel(style.coordinate(1, "x" if k else "z") if k < 2 else "", labelpad=1)
        axis.tick_params(labelleft=k < 2)
        if k:
            style.scatter(axis, data[:2000], style.PALE, alpha=0.3)
        curves = list(style.array(image))
        for part, colour in ((curves[: len(curves) // 2], style.MODEL), (curves[len(curves) // 2 :], style.DATA)):
            axis.add_collection(LineCollection(part, colors=colour, linewidths=0.8, alpha=0.9))
    return figure


def index_figure(steps: Sequence[tuple[str, Tensor, Tensor]], window: Box, data: Tensor, title: str = "") -> Figure:
    """Where an index works: mean and standard deviation of u over x, a row for each step.

    Arguments:
        steps: For each step, what to call it, and mean and standard deviation of u under q at the points of
            `grid(window, resolution)`, (resolution²,).
        data: Points of the data set, which lie over the colours, (N, 2).
    """
    size = (8.4, 3.5 * len(steps))
    figure, axes = style.panels(size, title, len(steps), 2, above=0.35, sharex=True, sharey=True)
    for row, (name, mean, spread) in zip(axes, steps, strict=True):
        most = mean.abs().max().item() or 1.0  # the mean has a middle, so its colours have one
        for axis, what, values, low, high, colours, dots in (
            (row[0], "mean of $u$", mean, -most, most, "PuOr", "black"),
            (row[1], "standard deviation of $u$", spread, 0.0, None, style.COLOURS, "white"),
        ):
            style.frame(axis, window, name)
            style.colour_bar(axis, style.shade(axis, style.array(values), window, low, high, "bilinear", colours), what)
            style.scatter(axis, data[:1500], dots, alpha=0.35, scale=0.6)
    return figure
