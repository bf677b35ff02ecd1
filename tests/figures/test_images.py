"""Images are drawn pixel by pixel, in their places."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from cifrun.figures.images import GRID_PIXELS, PAIRS_ACROSS, images_figure, reconstructions_figure
from cifrun.figures.style import save


def canvas_of(figure: Figure) -> np.ndarray:
    """What the figure's only panel shows, and that its pixels are those of the picture."""
    (axis,) = figure.axes
    pixels = np.asarray(axis.get_images()[0].get_array())
    box = axis.get_window_extent()
    assert (round(box.height), round(box.width)) == pixels.shape[:2]
    return pixels


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_images_are_drawn_pixel_by_pixel(channels: int) -> None:
    x = torch.randint(17, (5, channels, 4, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pixels = canvas_of(images_figure(x, 17, "digits"))
    flat = x.flatten(0, 1)[:, None] if channels == 2 else x  # a picture has one channel or three
    columns = math.ceil(math.sqrt(len(flat)))
    zoom = GRID_PIXELS // (6 * columns)
    gap = (pixels.shape[1] - columns * zoom * 6) // (columns - 1)
    assert 2 <= gap < zoom
    for k, image in enumerate(flat):
        top, left = (k // columns) * (4 * zoom + gap), (k % columns) * (6 * zoom + gap)
        part = pixels[top : top + 4 * zoom : zoom, left : left + 6 * zoom : zoom]
        assert np.allclose(part, image.movedim(0, 2).expand(-1, -1, 3) / 16)
        assert np.ptp(pixels[top : top + zoom, left : left + zoom], axis=(0, 1)).max() == 0
    assert (pixels[:, 6 * zoom : 6 * zoom + gap] == 1).all()


def test_reconstructions_are_drawn_below_what_they_are_of(tmp_path: Path) -> None:
    data = torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 255
    again = data.clone()
    again[3, 0, 0, 0] += 0.5
    figure = reconstructions_figure(data, again, 256, "model")
    assert any("5.0e-01 grey levels" in text.get_text() for text in figure.texts)
    pixels = canvas_of(figure)
    zoom = GRID_PIXELS // (PAIRS_ACROSS * 4)
    filled = [row for row in range(len(pixels)) if (pixels[row] < 1).any()]
    assert len(filled) == 4 * 4 * zoom  # two rows of pairs
    upper, lower = filled[: 4 * zoom], filled[4 * zoom : 8 * zoom]
    left = slice(0, 4 * zoom)
    assert np.array_equal(pixels[upper, left], pixels[lower, left])
    assert np.allclose(pixels[upper, left][::zoom, ::zoom], data[0].floor().movedim(0, 2) / 255)
    save(figure, tmp_path / "x.png")
    few = reconstructions_figure(data[:1], again[:1], 256)
    assert len(few.axes) == 1
