"""Samples lie over the data, in the plane and as marginals of any number of coordinates."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cifrun.figures.marginals import marginals_figure, sample_png, samples_figure
from cifrun.figures.plane import window_of
from cifrun.figures.style import save


def test_samples_over_data(points: Tensor) -> None:
    figure = samples_figure(points, points[:100], window_of(points))
    (axis,) = figure.axes
    assert [len(dots.get_offsets()) for dots in axis.collections] == [100, 100]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["data", "model"]


@pytest.mark.parametrize(("dim", "axes"), [(1, 1), (2, 4), (3, 9), (12, 25)])
def test_marginals_of_any_dimension(dim: int, axes: int, tmp_path: Path) -> None:
    data, samples = torch.randn(200, dim), torch.randn(100, dim)
    samples[0] = math.nan
    figure = marginals_figure(data, samples, "a title")
    assert len(figure.axes) == axes
    save(figure, tmp_path / "marginals.png")


def test_marginals_of_images_are_those_of_their_pixels_though_the_data_are_constant(tmp_path: Path) -> None:
    figure = marginals_figure(torch.zeros(50, 1, 2, 2), torch.rand(50, 1, 2, 2))
    assert len(figure.axes) == 16
    for axis in figure.axes:
        low, high = axis.get_xlim()
        assert low < 0 < high  # where the data are, with room on both sides
    save(figure, tmp_path / "marginals.png")
    assert (tmp_path / "marginals.png").stat().st_size > 1000


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_sample_png(dim: int, tmp_path: Path) -> None:
    sample_png(torch.randn(100, dim), tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
