"""Axes have names, labels lie within the picture, and drawing leaves no trace outside of its file."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cifrun.errors import RunError
from cifrun.figures.density import density_figure, marginals_figure, sample_png, samples_figure
from cifrun.figures.style import DENSITY, grid, name_axes, save, window_of

from .helpers import Boxes, standard_normal


@pytest.mark.parametrize("names", [["height"], ["height", "price [$]"], ["height", "weight", "age"]])
def test_axes_have_the_names_of_the_columns(names: list[str]) -> None:
    x = torch.randn(50, len(names))
    figure = marginals_figure(x, x)
    if len(names) == 2:
        figure = samples_figure(x, x, window_of(x))
    before = {label.get_text() for axes in figure.axes for label in (axes.xaxis.label, axes.yaxis.label)}
    assert name_axes(figure, []) is figure
    labels = [label for axes in figure.axes for label in (axes.xaxis.label, axes.yaxis.label)]
    assert {label.get_text() for label in labels} == before
    name_axes(figure, names)
    assert {label.get_text().replace("\\$", "$") for label in labels} - {DENSITY, ""} == set(names)
    figure.canvas.draw()  # a dollar begins no formula


def test_labels_lie_within_the_picture(tmp_path: Path) -> None:
    x = torch.randn(50, 2)
    window = window_of(x)
    figure = density_figure(None, standard_normal(grid(window, 16)), x, window, "a title", data=x)
    save(name_axes(figure, ["height", "weight"]), tmp_path / "x.png")
    boxes = [axis.label.get_window_extent() for axes in figure.axes[:3] for axis in (axes.xaxis, axes.yaxis)]
    assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"x\.png can't be written"):
        sample_png(torch.randn(10, 2), tmp_path / "missing" / "x.png")


def test_drawing_needs_no_pyplot_and_importing_no_matplotlib(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; import cifrun.training.loop\n"
        "from cifrun.figures.density import sample_png\n"
        "assert 'matplotlib' not in sys.modules and 'tensorboard' not in sys.modules\n"
        f"sample_png(torch.randn(50, 2), Path({str(tmp_path / 'x.pdf')!r}))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=Path(__file__).parents[2])
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")


# --- in the plane -----------------------------------------------------------------------------------------------------


def test_window_of_a_target_is_square_and_larger(points: Tensor) -> None:
    (a, b), (c, d) = window_of(points, Boxes())
    assert b - a == pytest.approx(d - c)
    assert a < -2 and b > 2 and c < -1 and d > 1
    assert (a + b, c + d) == pytest.approx((0, 0))


def test_window_of_data_ignores_outliers_and_keeps_scales() -> None:
    x = torch.randn(5000, 2) * torch.tensor([1.0, 1000.0])
    x[0] = math.nan
    x[1] = 1e9
    (a, b), (c, d) = window_of(x)
    assert 4 < b - a < 20
    assert 4000 < d - c < 20_000


def test_grid_integrates_to_one() -> None:
    window = ((-6.0, 5.0), (-5.0, 7.0))
    x = grid(window, 100)
    assert x.shape == (10_000, 2) and x.dtype == torch.float64
    assert standard_normal(x).exp().mean().item() * 11 * 12 == pytest.approx(1, abs=1e-4)
