"""Targets with straight edges: which side of an edge has which density."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from cifrun.data.targets.boxes import (
    Boxes,
    Checkerboard,
    OneUniform,
    SplitGaussian,
    TwoLines,
    TwoMarginals,
    TwoUniforms,
)


def points(*rows: tuple[float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(
    ("target", "inside", "outside", "density"),
    [
        (OneUniform(name="b"), [(0, 0), (0.5, -0.5)], [(0.51, 0), (0, -0.51)], 1),
        (TwoUniforms(name="b"), [(-1.5, 0.9), (1, -1)], [(0, 0), (1.5, 1.1), (-2.1, 0)], 1 / 4),
        (TwoLines(name="b", width=0.5), [(-1.2, 0), (0.8, 1)], [(-1.3, 0), (0, 0), (1, 1.1)], 1 / 2),
        (TwoLines(name="b"), [(1.004, 0.5)], [(1.006, 0.5)], 25),
        (Checkerboard(name="b"), [(-3, -3), (1, 1), (-1, 3)], [(-3, -1), (1, -1), (5, 5)], 1 / 32),
    ],
)
def test_a_union_of_boxes_is_flat_inside_and_nothing_outside(
    target: Boxes, inside: list[tuple[float, float]], outside: list[tuple[float, float]], density: float
) -> None:
    assert target.log_prob(points(*inside)).exp().tolist() == pytest.approx([density] * len(inside))
    assert target.log_prob(points(*outside)).tolist() == [-math.inf] * len(outside)
    assert math.exp(target.max_log_prob) == pytest.approx(density)
    assert target.component(points(*outside)).tolist() == [-1] * len(outside)


def test_squares_of_the_board_are_named_as_on_a_chessboard() -> None:
    """Files a to d are from left to right, ranks 1 to 4 from below."""
    board = Checkerboard(name="checkerboard")
    x = points(*((2 * "abcd".index(file) - 3, 2 * int(rank) - 5) for file, rank in board.names))
    assert board.component(x).tolist() == list(range(8))
    assert len(board.boxes) == 8 and sum(board.components.values()) == 1


@pytest.mark.parametrize("width", [0.1, 0.5, 1.0])
def test_two_marginals_are_a_product_of_a_flat_and_a_normal_density(width: float) -> None:
    target = TwoMarginals(name="two_marginals", width=width)
    x = points((-1, 0.3), (1 + 0.49 * width, -2), (-1 - 0.49 * width, 4))
    expected = stats.norm.logpdf(x[:, 1].numpy()) - math.log(2 * width)
    assert target.log_prob(x).tolist() == pytest.approx(expected)
    assert target.component(x).tolist() == [0, 1, 0]
    outside = points((0, 0), (1 + 0.51 * width, 0), (1 - 0.51 * width, 0))
    assert target.log_prob(outside).tolist() == [-math.inf] * 3 and target.component(outside).tolist() == [-1] * 3


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_a_split_gaussian_is_one_of_two_normal_densities(shift: float) -> None:
    target = SplitGaussian(name="split_gaussian", shift=shift)
    x = points((-0.5, -1), (0.5, -1), (1e-9, 2), (-1e-9, 2))
    centre = torch.where(x[:, 0] > 0, shift, -shift)
    expected = stats.norm.logpdf(x[:, 0].numpy()) + stats.norm.logpdf((x[:, 1] - centre).numpy())
    assert target.log_prob(x).tolist() == pytest.approx(expected)
    assert target.component(x).tolist() == [0, 1, 1, 0]
