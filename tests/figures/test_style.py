"""Axes have names, labels lie within the picture, and drawing leaves no trace outside of its file."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cifrun.errors import RunError
from cifrun.figures.density import density_figure, marginals_figure, sample_png, samples_figure
from cifrun.figures.images import images_figure
from cifrun.figures.style import DENSITY, grid, name_axes, rendered, save, save_twice, window_of
from cifrun.figures.ticks import label_boxes

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


@pytest.mark.parametrize("backend", ["nonsense", "module://nothing.there", "TkAgg"])
def test_no_backend_keeps_a_picture_from_being_drawn(backend: str, tmp_path: Path) -> None:
    """The kernel of a notebook names its own in MPLBACKEND, which commands that it starts find there; it stays."""
    code = (
        "import os, torch; from pathlib import Path; from cifrun.figures.density import samples_figure\n"
        "from cifrun.figures.style import save_twice, window_of\n"
        "x = torch.randn(50, 2)\n"
        f"save_twice(samples_figure(x, x, window_of(x)), Path({str(tmp_path / 'x.png')!r}))\n"
        f"assert os.environ['MPLBACKEND'] == {backend!r}"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": backend, "DISPLAY": ""}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=Path(__file__).parents[2])
    assert (tmp_path / "x.pdf").is_file() and (tmp_path / "x.png").is_file()


def test_figures_are_drawn_on_agg_alone() -> None:
    """What a program has set otherwise does not matter."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    x = torch.randn(50, 2)
    pictures = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    for figure in (marginals_figure(x, x), images_figure(pictures, 256)):
        assert type(figure.canvas) is FigureCanvasAgg


@pytest.mark.parametrize(
    "name", ["身長", "\U0001f600", "देवनागरी", "a\x1b[31m", "x" * 10_000, "a\nb", "$a$_{b", "\\frac{"]
)
def test_no_name_of_a_column_makes_a_warning_or_leaves_its_place(name: str, tmp_path: Path) -> None:
    """A name that the font lacks stays a coordinate; whatever else it has in it, it is one short line."""
    x = torch.randn(50, 2)
    figure = name_axes(marginals_figure(x, x), [name, "weight"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_twice(figure, tmp_path / "x.png")
    label = figure.axes[-2].xaxis.label
    assert (label.get_text() == "$x_{1}$") is (name in ("身長", "देवनागरी"))
    assert len(label.get_text()) < 40 and "\n" not in label.get_text() and "\x1b" not in label.get_text()
    assert label.get_window_extent().width < 1.02 * figure.axes[-2].bbox.width


@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (12345, 0), (1e-3, 1.7e9), (1e6, 1.7e9), (1e6, -123456)])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_labels_of_ticks_do_not_touch(dim: int, scale: float, shift: float) -> None:
    x = shift + scale * torch.randn(50, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    figures = [marginals_figure(x, x)]
    if dim == 2:
        window = window_of(x)
        figures += [samples_figure(x, x, window)]
        figures += [density_figure(None, standard_normal(grid(window, 16)), x, window, data=x)]
    for figure in figures:
        rendered(figure)
        for axes in figure.axes:
            for axis, side in ((axes.xaxis, "intervalx"), (axes.yaxis, "intervaly")):
                ends = sorted(sorted(getattr(box, side)) for box in label_boxes(axis))
                assert all(a[1] <= b[0] for a, b in pairwise(ends)), (axis, ends)


def test_a_pdf_may_go_without_its_title(tmp_path: Path) -> None:
    x = torch.randn(50, 2)
    sizes = []
    for title in (True, False):
        figure = samples_figure(x, x, window_of(x), "a title")
        save_twice(figure, tmp_path / "x.png", pdf_title=title)
        (line,) = figure.texts
        assert line.get_visible() is title
        sizes.append(((tmp_path / "x.png").read_bytes(), (tmp_path / "x.pdf").stat().st_size))
    (png, pdf), (same, smaller) = sizes
    assert png == same and smaller < pdf


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
