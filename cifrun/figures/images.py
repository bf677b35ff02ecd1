"""Images, pixel by pixel: a grid of them, and what is left of images after the way to the prior and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.grey_levels import quantize
from .style import DPI, TICK, TITLE, array, blank

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_IMAGES, PAIRS_ACROSS = 2_500, 10
GRID_PIXELS = 900  # about, for a side of a grid of images: each pixel of an image is as many of the picture's as fit


def images_figure(
    images: Tensor, levels: int, title: str = "", *, columns: int | None = None, together: int | None = None
) -> Figure:
    """Images in a grid, row by row, a hair apart: grey for one channel, colour for three, else a row for each channel.

    A pixel of an image is a square of whole pixels of the picture, so that nothing is blurred.

    Arguments:
        images: uint8, (N, C, H, W), of which at most `MAX_IMAGES` are drawn.
        levels: Level 0 is black, and levels − 1 is white.
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
    """
    columns = min(len(data), PAIRS_ACROSS)
    count = len(data) // columns * columns
    blocks = zip(data[:count].split(columns), again[:count].split(columns), strict=True)
    error = (data - again).abs().max().item()
    lines = [title, f"data (above) and what the inverse gives back (below): they differ by ≤ {error:.1e} grey levels"]
    pairs = torch.cat([part for block in blocks for part in block])
    return images_figure(quantize(pairs, levels), levels, "\n".join(lines), columns=columns, together=2)


def _exact_figure(canvas: Tensor, title: str) -> Figure:
    """A canvas, (height, width, 3), pixel by pixel, with a margin of white and a title above it."""
    margin, (height, width, _) = 24, canvas.shape
    lines = title.splitlines()
    line = int(DPI * TITLE / 72 * 1.5)
    head = line * len(lines)
    size = (width + 2 * margin, height + 2 * margin + head)
    figure = blank((size[0] / DPI, size[1] / DPI))
    axis = figure.add_axes((margin / size[0], margin / size[1], width / size[0], height / size[1]))
    axis.imshow(array(canvas), interpolation="nearest", aspect="auto", vmin=0, vmax=1)
    axis.set_axis_off()
    for k, text in enumerate(lines):
        top = 1 - (margin / 2 + k * line) / size[1]
        figure.text(0.5, top, text, ha="center", va="top", fontsize=TICK if k else TITLE)
    return figure
