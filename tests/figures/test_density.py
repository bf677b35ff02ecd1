"""Densities are drawn where they are, on a scale that a spike does not set; samples lie over the data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cifrun.data.base import Target
from cifrun.figures.density import (
    HEADROOM,
    LOG_DENSITY,
    compare_densities,
    density_figure,
    marginals_figure,
    sample_png,
    samples_figure,
)
from cifrun.figures.style import DENSITY, grid, save, window_of

from .helpers import Boxes, standard_normal


def test_density_is_drawn_where_it_is(points: Tensor) -> None:
    """Pixels near (1.5, 0.5) are bright and those near (0.5, 1.5) dark: the axes are not swapped."""
    window = ((-3.0, 3.0), (-3.0, 3.0))
    figure = density_figure(Boxes(), Boxes().log_prob(grid(window, 60).double()), points, window)
    target, model = (axis.get_images()[0] for axis in figure.axes[:2])
    for image in (target, model):
        assert image.get_extent() == [-3, 3, -3, 3]
        pixels = np.asarray(image.get_array())
        assert image.origin == "lower"
        assert pixels[35, 45] == pytest.approx(0.25)  # row: x₂ = 0.5, column: x₁ = 1.5
        assert pixels[45, 35] == 0
    assert target.get_clim() == model.get_clim()


@pytest.mark.parametrize(("target", "expected"), [(Boxes(), 0.25 * HEADROOM), (None, 1 / (2 * math.pi))])
def test_a_spike_does_not_set_the_scale(points: Tensor, target: Target | None, expected: float) -> None:
    window = ((-3.0, 3.0), (-3.0, 3.0))
    log_prob = standard_normal(grid(window, 60))
    log_prob[7] = math.log(0.4)  # a cell with less than half a percent of the mass
    figure = density_figure(target, log_prob, points, window)
    low, high = figure.axes[-2].get_images()[0].get_clim()
    assert low == 0 and high == pytest.approx(expected, rel=0.01)


def test_a_target_thinner_than_a_pixel_is_seen(points: Tensor) -> None:
    class Thin(Boxes):
        def log_prob(self, x: Tensor) -> Tensor:
            inside = ((x[:, 0] - 1).abs() < 0.005) & (x[:, 1].abs() < 1)
            return torch.where(inside, math.log(50), -math.inf).double()

    window = ((-2.0, 2.0), (-2.0, 2.0))
    figure = density_figure(Thin(), standard_normal(grid(window, 100)), points, window)
    pixels = np.asarray(figure.axes[0].get_images()[0].get_array())
    assert pixels.mean() * 16 == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("case", ["target", "data", "neither"])
def test_density_figure_in_every_form(points: Tensor, case: str, log: bool, tmp_path: Path) -> None:
    window = window_of(points)
    log_prob = standard_normal(grid(window, 20))
    log_prob[:5], log_prob[5:10] = -math.inf, math.nan
    samples = points.clone()
    samples[:50], samples[50:60] = 1e6, math.nan
    target, data = (Boxes() if case == "target" else None), (points if case == "data" else None)
    figure = density_figure(target, log_prob, samples, window, "a title", data=data, log=log)
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == [*([case] if case != "neither" else []), "model", "samples (12.0 % outside)"]
    (bar,) = figure.axes[-2].child_axes
    assert bar.get_ylabel() == (LOG_DENSITY if log else DENSITY)
    save(figure, tmp_path / "density.png")
    assert (tmp_path / "density.png").stat().st_size > 1000


@pytest.mark.parametrize("value", [-math.inf, math.nan])
def test_a_density_that_is_nowhere_finite_is_an_empty_panel(points: Tensor, value: float, tmp_path: Path) -> None:
    figure = density_figure(None, torch.full((400,), value), points, window_of(points))
    (image,) = figure.axes[0].get_images()
    assert image.get_clim() == (0, 1)
    assert not np.ma.masked_invalid(image.get_array()).any()  # zero, or blank
    save(figure, tmp_path / "density.png")
    assert (tmp_path / "density.png").stat().st_size > 1000


class Gaussian(torch.nn.Module):
    """N(0, I), with what a picture needs of a model."""

    takes = torch.empty(0)

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def log_prob(self, x: Tensor, importance_samples: int, chunk_size: int) -> Tensor:
        return standard_normal(x)


def test_several_models_share_the_targets_scale(tmp_path: Path) -> None:
    figure = compare_densities(Boxes(), {"one": Gaussian(), "other": Gaussian()}, resolution=30)  # type: ignore[dict-item]
    assert [axis.get_title() for axis in figure.axes] == ["target", "one", "other"]
    images = [axis.get_images()[0] for axis in figure.axes]
    assert all(image.get_clim() == pytest.approx((0, 0.25 * HEADROOM)) for image in images)
    assert np.array_equal(images[1].get_array(), images[2].get_array())
    save(figure, tmp_path / "x.pdf")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")


# --- samples ----------------------------------------------------------------------------------------------------------


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
