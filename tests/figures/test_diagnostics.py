"""What diagnostics found is drawn where it is: constants, bounds, maps and the index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from cifrun.figures.diagnostics import bounds_figure, index_figure, lattice, lipschitz_figure, maps_figure
from cifrun.figures.style import grid, save


def test_a_lattice_goes_where_the_map_takes_it(points: Tensor) -> None:
    lines = lattice(half=2.0, lines=5, points=7)
    assert lines.shape == (10, 7, 2)
    assert (lines[:5, :, 0].std(1) == 0).all() and (lines[5:, :, 1].std(1) == 0).all()  # upright, then level
    figure = maps_figure(lines, {"twice": 2 * lines}, ((-4.0, 4.0), (-4.0, 4.0)), points)
    before, after = (
        np.concatenate([path.vertices for c in axis.collections[-2:] for path in c.get_paths()]) for axis in figure.axes
    )
    assert np.allclose(after, 2 * before) and len(before) == 70


def test_the_index_is_drawn_where_it_is(points: Tensor) -> None:
    window = ((-3.0, 3.0), (-3.0, 3.0))
    x = grid(window, 20)
    figure = index_figure([("step 1", x[:, 0], x[:, 1].abs())], window, points)
    mean, spread = (np.asarray(axis.get_images()[0].get_array()) for axis in figure.axes)
    assert (np.diff(mean, axis=1) > 0).all() and np.allclose(mean[0], mean[-1])  # along x₁, the columns
    assert np.allclose(spread, spread[::-1])
    low, high = figure.axes[0].get_images()[0].get_clim()
    assert low == -high


def test_constants_by_depth_with_their_ceiling(tmp_path: Path) -> None:
    rows = [{"depth": k, "lip_f": 2.0**k, "lip_f_inverse": 1.0, "ceiling": 10.0**k} for k in (1, 2, 3)]
    free = [{k: v for k, v in row.items() if k != "ceiling"} for row in rows]
    figure = lipschitz_figure({"plain": rows, "another": rows, "CIF": free})
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert len(labels) == 7 and labels.count("plain: ceiling") == 1
    assert figure.axes[0].get_ylim()[1] > 1000
    save(lipschitz_figure({"": rows[:1]}), tmp_path / "x.png")


def test_bounds_meet(tmp_path: Path) -> None:
    ms = [1, 10, 100]
    curve = [{"m": m, "below": 1 / m - 0.01, "below_se": 0.1 / m} for m in ms]
    bracket = [{"m": m, "lower": -2 - 1 / m, "upper": -2 + 1 / m, "gap_se": 0.1 / m} for m in ms]
    figure = bounds_figure(curve, bracket)
    left, right = figure.axes
    assert left.lines[0].get_ydata()[-1] == 0 and "+ 2.000" in right.get_ylabel()
    upper, lower = (np.asarray(container.lines[0].get_ydata(), dtype=float) for container in right.containers)
    assert (upper > 0).all() and np.allclose(upper, -lower)
    save(figure, tmp_path / "x.png")
