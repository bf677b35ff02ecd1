"""Where pictures in the plane lie: a box that holds what there is, and a grid over it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cifrun.figures.plane import grid, window_of

from .helpers import Boxes, standard_normal


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
    assert x.shape == (10_000, 2) and x.dtype == torch.get_default_dtype()
    assert standard_normal(x).exp().mean().item() * 11 * 12 == pytest.approx(1, abs=1e-4)
