"""Pictures show the right thing in the right place, for any data, and leave no trace outside of their file."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from cifrun.data.base import Target
from cifrun.errors import RunError
from cifrun.figures import plots


class Boxes(Target):
    """Uniform on two unit-by-two boxes."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        x = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        side = torch.randint(2, (n,), generator=generator) * 2 - 1
        return torch.stack([side * (1 + x[:, 0]), 2 * x[:, 1] - 1], 1)

    def log_prob(self, x: Tensor) -> Tensor:
        inside = (x[:, 0].abs() > 1) & (x[:, 0].abs() < 2) & (x[:, 1].abs() < 1)
        return torch.where(inside, -math.log(4), -math.inf).double()

    @property
    def window(self) -> plots.Window:
        return (-2.0, 2.0), (-1.0, 1.0)


@pytest.fixture
def points() -> Tensor:
    return Boxes(num_train=500).load().train


def standard_normal(x: Tensor) -> Tensor:
    return -x.square().sum(1) / 2 - math.log(2 * math.pi)


# --- windows and grids ------------------------------------------------------------------------------------------------


def test_window_of_a_target_is_square_and_larger(points: Tensor) -> None:
    (a, b), (c, d) = plots.window_of(points, Boxes())
    assert b - a == pytest.approx(d - c)
    assert a < -2 and b > 2 and c < -1 and d > 1
    assert (a + b, c + d) == pytest.approx((0, 0))


def test_window_of_data_ignores_outliers_and_keeps_scales() -> None:
    x = torch.randn(5000, 2) * torch.tensor([1.0, 1000.0])
    x[0] = math.nan
    x[1] = 1e9
    (a, b), (c, d) = plots.window_of(x)
    assert 4 < b - a < 20
    assert 4000 < d - c < 20_000


def test_grid_integrates_to_one() -> None:
    window = ((-6.0, 5.0), (-5.0, 7.0))
    x = plots.grid(window, 100)
    assert x.shape == (10_000, 2) and x.dtype == torch.get_default_dtype()
    assert standard_normal(x).exp().mean().item() * 11 * 12 == pytest.approx(1, abs=1e-4)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_density_is_drawn_where_it_is(points: Tensor) -> None:
    """Pixels near (1.5, 0.5) are bright and those near (0.5, 1.5) dark: the axes are not swapped."""
    window = ((-3.0, 3.0), (-3.0, 3.0))
    figure = plots.density_figure(Boxes(), Boxes().log_prob(plots.grid(window, 60).double()), points, window)
    target, model = (axis.get_images()[0] for axis in figure.axes[:2])
    for image in (target, model):
        assert image.get_extent() == [-3, 3, -3, 3]
        pixels = np.asarray(image.get_array())
        assert image.origin == "lower"
        assert pixels[35, 45] == pytest.approx(0.25)  # row: x₂ = 0.5, column: x₁ = 1.5
        assert pixels[45, 35] == 0
    assert target.get_clim() == model.get_clim()


@pytest.mark.parametrize(("target", "expected"), [(Boxes(), 0.25 * plots.HEADROOM), (None, 1 / (2 * math.pi))])
def test_a_spike_does_not_set_the_scale(points: Tensor, target: Target | None, expected: float) -> None:
    window = ((-3.0, 3.0), (-3.0, 3.0))
    log_prob = standard_normal(plots.grid(window, 60))
    log_prob[7] = math.log(0.4)  # a cell with less than half a percent of the mass
    figure = plots.density_figure(target, log_prob, points, window)
    low, high = figure.axes[-2].get_images()[0].get_clim()
    assert low == 0 and high == pytest.approx(expected, rel=0.01)


def test_a_target_thinner_than_a_pixel_is_seen(points: Tensor) -> None:
    class Thin(Boxes):
        def log_prob(self, x: Tensor) -> Tensor:
            inside = ((x[:, 0] - 1).abs() < 0.005) & (x[:, 1].abs() < 1)
            return torch.where(inside, math.log(50), -math.inf).double()

    window = ((-2.0, 2.0), (-2.0, 2.0))
    figure = plots.density_figure(Thin(), standard_normal(plots.grid(window, 100)), points, window)
    pixels = np.asarray(figure.axes[0].get_images()[0].get_array())
    assert pixels.mean() * 16 == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("case", ["target", "data", "neither"])
def test_density_figure_in_every_form(points: Tensor, case: str, log: bool, tmp_path: Path) -> None:
    window = plots.window_of(points)
    log_prob = standard_normal(plots.grid(window, 20))
    log_prob[:5], log_prob[5:10] = -math.inf, math.nan
    samples = points.clone()
    samples[:50], samples[50:60] = 1e6, math.nan
    target, data = (Boxes() if case == "target" else None), (points if case == "data" else None)
    figure = plots.density_figure(target, log_prob, samples, window, "a title", data=data, log=log)
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == [*([case] if case != "neither" else []), "model", "samples (12.0 % outside)"]
    (bar,) = figure.axes[-2].child_axes
    assert bar.get_ylabel() == (plots.LOG_DENSITY if log else plots.DENSITY)
    plots.save(figure, tmp_path / "density.png")
    assert (tmp_path / "density.png").stat().st_size > 1000


def test_density_that_is_nowhere_finite(points: Tensor, tmp_path: Path) -> None:
    window = plots.window_of(points)
    for value in (-math.inf, math.nan):
        plots.save(plots.density_figure(None, torch.full((400,), value), points, window), tmp_path / "x.png")


def test_samples_over_data(points: Tensor) -> None:
    figure = plots.samples_figure(points, points[:100], plots.window_of(points))
    (axis,) = figure.axes
    assert [len(dots.get_offsets()) for dots in axis.collections] == [100, 100]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["data", "model"]


@pytest.mark.parametrize(("dim", "axes"), [(1, 1), (2, 4), (3, 9), (12, 25)])
def test_marginals_of_any_dimension(dim: int, axes: int, tmp_path: Path) -> None:
    data, samples = torch.randn(200, dim), torch.randn(100, dim)
    samples[0] = math.nan
    figure = plots.marginals_figure(data, samples, "a title")
    assert len(figure.axes) == axes
    plots.save(figure, tmp_path / "marginals.png")


@pytest.mark.parametrize("names", [["height"], ["height", "price [$]"], ["height", "weight", "age"]])
def test_axes_have_the_names_of_the_columns(names: list[str]) -> None:
    x = torch.randn(50, len(names))
    figure = plots.marginals_figure(x, x)
    if len(names) == 2:
        figure = plots.samples_figure(x, x, plots.window_of(x))
    before = {label.get_text() for axes in figure.axes for label in (axes.xaxis.label, axes.yaxis.label)}
    assert plots.name_axes(figure, []) is figure
    labels = [label for axes in figure.axes for label in (axes.xaxis.label, axes.yaxis.label)]
    assert {label.get_text() for label in labels} == before
    plots.name_axes(figure, names)
    assert {label.get_text().replace("\\$", "$") for label in labels} - {plots.DENSITY, ""} == set(names)
    figure.canvas.draw()  # a dollar begins no formula


def test_labels_lie_within_the_picture(tmp_path: Path) -> None:
    x = torch.randn(50, 2)
    window = plots.window_of(x)
    figure = plots.density_figure(None, standard_normal(plots.grid(window, 16)), x, window, "a title", data=x)
    plots.save(plots.name_axes(figure, ["height", "weight"]), tmp_path / "x.png")
    boxes = [axis.label.get_window_extent() for axes in figure.axes[:3] for axis in (axes.xaxis, axes.yaxis)]
    assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)


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
    pixels = canvas_of(plots.images_figure(x, 17, "digits"))
    flat = x.flatten(0, 1)[:, None] if channels == 2 else x  # a picture has one channel or three
    columns = math.ceil(math.sqrt(len(flat)))
    zoom = plots.GRID_PIXELS // (6 * columns)
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
    figure = plots.reconstructions_figure(data, again, 256, "model")
    assert any("5.0e-01 grey levels" in text.get_text() for text in figure.texts)
    pixels = canvas_of(figure)
    zoom = plots.GRID_PIXELS // (plots.PAIRS_ACROSS * 4)
    filled = [row for row in range(len(pixels)) if (pixels[row] < 1).any()]
    assert len(filled) == 4 * 4 * zoom  # two rows of pairs
    upper, lower = filled[: 4 * zoom], filled[4 * zoom : 8 * zoom]
    left = slice(0, 4 * zoom)
    assert np.array_equal(pixels[upper, left], pixels[lower, left])
    assert np.allclose(pixels[upper, left][::zoom, ::zoom], data[0].floor().movedim(0, 2) / 255)
    plots.save(figure, tmp_path / "x.png")
    few = plots.reconstructions_figure(data[:1], again[:1], 256)
    assert len(few.axes) == 1


def test_marginals_of_events_and_of_constants(tmp_path: Path) -> None:
    plots.save(plots.marginals_figure(torch.zeros(50, 1, 2, 2), torch.rand(50, 1, 2, 2)), tmp_path / "x.png")


def test_one_dimension_has_a_density_curve() -> None:
    x = torch.linspace(-3, 3, 50)
    figure = plots.marginals_figure(torch.randn(100, 1), torch.randn(100, 1), density=(x, standard_normal(x[:, None])))
    assert len(figure.axes[0].lines) == 1


def test_curves_skip_gaps_and_ignore_the_start() -> None:
    rows = [{"step": k, "train/elbo": -1.5 - (1e6 if k == 0 else 0)} for k in range(0, 500, 10)]
    rows += [{"step": 500, "train/elbo": None}, {"step": 100, "valid/log_likelihood": -1.4}, {"step": 7}]
    figure = plots.curves_figure(rows, truth=-1.386)
    training, validation, truth = figure.axes[0].lines
    assert len(training.get_xdata()) == 50 and len(validation.get_xdata()) == 1 and truth.get_label() == "truth"
    low, high = figure.axes[0].get_ylim()
    assert -2 < low < -1.5 and -1.386 < high < -1


def test_curves_of_nothing(tmp_path: Path) -> None:
    plots.save(plots.curves_figure([], truth=-1.0), tmp_path / "training.png")


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_sample_png(dim: int, tmp_path: Path) -> None:
    plots.sample_png(torch.randn(100, dim), tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"x\.png can't be written"):
        plots.sample_png(torch.randn(10, 2), tmp_path / "missing" / "x.png")


def test_drawing_needs_no_pyplot_and_importing_no_matplotlib(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; from cifrun import plots, tracking\n"
        "assert 'matplotlib' not in sys.modules and 'tensorboard' not in sys.modules\n"
        f"x = torch.randn(50, 2); figure = plots.samples_figure(x, x, plots.window_of(x))\n"
        f"with tracking.Tracker(Path({str(tmp_path)!r})) as t: t.figure(0, 'figures/samples', figure)\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=Path(__file__).parents[2])


# --- pictures of what was measured ------------------------------------------------------------------------------------


class Gaussian(torch.nn.Module):
    """N(0, I), with the method of a model that a picture needs."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def log_prob(self, x: Tensor, importance_samples: int, chunk_size: int) -> Tensor:
        return standard_normal(x)


def test_several_models_share_the_targets_scale(tmp_path: Path) -> None:
    figure = plots.compare_densities(Boxes(), {"one": Gaussian(), "other": Gaussian()}, resolution=30)  # type: ignore[dict-item]
    assert [axis.get_title() for axis in figure.axes] == ["target", "one", "other"]
    images = [axis.get_images()[0] for axis in figure.axes]
    assert all(image.get_clim() == pytest.approx((0, 0.25 * plots.HEADROOM)) for image in images)
    assert np.array_equal(images[1].get_array(), images[2].get_array())
    plots.save(figure, tmp_path / "x.pdf")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")


def test_a_lattice_goes_where_the_map_takes_it(points: Tensor) -> None:
    lines = plots.lattice(half=2.0, lines=5, points=7)
    assert lines.shape == (10, 7, 2)
    assert (lines[:5, :, 0].std(1) == 0).all() and (lines[5:, :, 1].std(1) == 0).all()  # upright, then level
    figure = plots.grid_maps(lines, {"twice": 2 * lines}, ((-4.0, 4.0), (-4.0, 4.0)), points)
    before, after = (
        np.concatenate([path.vertices for c in axis.collections[-2:] for path in c.get_paths()]) for axis in figure.axes
    )
    assert np.allclose(after, 2 * before) and len(before) == 70


def test_the_index_is_drawn_where_it_is(points: Tensor) -> None:
    window = ((-3.0, 3.0), (-3.0, 3.0))
    x = plots.grid(window, 20)
    figure = plots.index_use([("step 1", x[:, 0], x[:, 1].abs())], window, points)
    mean, spread = (np.asarray(axis.get_images()[0].get_array()) for axis in figure.axes)
    assert (np.diff(mean, axis=1) > 0).all() and np.allclose(mean[0], mean[-1])  # along x₁, the columns
    assert np.allclose(spread, spread[::-1])
    low, high = figure.axes[0].get_images()[0].get_clim()
    assert low == -high


def test_seeds_are_a_band() -> None:
    def rows(shift: float, last: int) -> list[dict[str, float]]:
        return [{"step": k, "valid/log_likelihood": shift - 100 / (k + 1)} for k in range(0, last, 50)]

    figure = plots.curves({"a": [rows(0, 500), rows(1, 400)], "b": [rows(3, 300)], "none": [[]]}, truth=4.0)
    (axis,) = figure.axes
    a, b, truth = axis.lines
    assert list(a.get_xdata()) == list(range(0, 400, 50))  # the steps that both seeds have
    assert a.get_ydata()[3] == pytest.approx(0.5 - 100 / 151)
    assert [a.get_label(), b.get_label(), truth.get_label()] == ["a, 2 seeds", "b", "truth"]
    (band,) = axis.collections
    heights = band.get_paths()[0].vertices
    column = heights[heights[:, 0] == 150, 1]
    assert column.max() - column.min() == pytest.approx(1)


def test_constants_by_depth_with_their_ceiling(tmp_path: Path) -> None:
    rows = [{"depth": k, "lip_f": 2.0**k, "lip_f_inverse": 1.0, "ceiling": 10.0**k} for k in (1, 2, 3)]
    free = [{k: v for k, v in row.items() if k != "ceiling"} for row in rows]
    figure = plots.lipschitz({"plain": rows, "another": rows, "CIF": free})
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert len(labels) == 7 and labels.count("plain: ceiling") == 1
    assert figure.axes[0].get_ylim()[1] > 1000
    plots.save(plots.lipschitz({"": rows[:1]}), tmp_path / "x.png")


def test_bounds_meet(tmp_path: Path) -> None:
    ms = [1, 10, 100]
    curve = [{"m": m, "below": 1 / m - 0.01, "below_se": 0.1 / m} for m in ms]
    bracket = [{"m": m, "lower": -2 - 1 / m, "upper": -2 + 1 / m, "gap_se": 0.1 / m} for m in ms]
    figure = plots.bounds(curve, bracket)
    left, right = figure.axes
    assert left.lines[0].get_ydata()[-1] == 0 and "+ 2.000" in right.get_ylabel()
    upper, lower = (np.asarray(container.lines[0].get_ydata(), dtype=float) for container in right.containers)
    assert (upper > 0).all() and np.allclose(upper, -lower)
    plots.save(figure, tmp_path / "x.png")
