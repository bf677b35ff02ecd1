"""Pictures in the plane: which box to draw, a grid over it, its axes, and points and colours in them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..data.base import Box, Target
from .style import COLOURS, array, coordinate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

__all__ = ["frame", "grid", "outside", "scatter", "shade", "window_of"]

MAX_POINTS = 5_000


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
    """The centres of resolution × resolution cells that tile the window, (resolution², 2), x₂ running fastest."""
    centres = (torch.arange(resolution, dtype=torch.float64) + 0.5) / resolution
    axes = (low + (high - low) * centres for low, high in window)
    return torch.cartesian_prod(*axes).to(torch.get_default_dtype())


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
