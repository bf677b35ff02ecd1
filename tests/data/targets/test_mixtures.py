"""Mixtures: sums of Gaussians, and the pinwheel against roots that are found one by one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import Tensor

from cifrun.data.targets.mixtures import EightGaussians, Pinwheel, in_chunks, log_mixture

EIGHT, PINWHEEL = EightGaussians(name="eight_gaussians"), Pinwheel(name="pinwheel")


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def turned(x: Tensor, angle: float) -> Tensor:
    """x, counterclockwise around the centre."""
    cos, sin = math.cos(angle), math.sin(angle)
    return x @ torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)


@pytest.mark.parametrize("width", [1, 2**10, 2**17, 2**30])
def test_rows_in_chunks_are_the_rows_at_once(width: int) -> None:
    x = torch.randn(300, 2, generator=seeded())
    sizes: list[int] = []
    found = in_chunks(lambda part: (sizes.append(len(part)), part.sum(1))[1], x, width)
    assert torch.equal(found, x.sum(1)) and sum(sizes) == 300
    assert max(sizes) <= max(1, 2**17 // width)


@pytest.mark.parametrize("std", [0.2, 1.0])
def test_a_mixture_is_the_sum_of_its_gaussians(std: float) -> None:
    centres = torch.randn(5, 2, generator=seeded()).double()
    weights = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25], dtype=torch.float64)
    x = torch.linspace(-2, 2, 80, dtype=torch.float64).view(40, 2)
    each = [stats.multivariate_normal(centre, std**2).pdf(x.numpy()) for centre in centres.numpy()]
    exact = np.log(weights.numpy() @ np.stack(each))
    assert log_mixture(x, centres, weights.log(), std).numpy() == pytest.approx(exact, abs=1e-9)


def test_a_mixture_is_finite_where_its_density_underflows() -> None:
    far = torch.tensor([[1e3, 0.0]], dtype=torch.float64)
    one = log_mixture(far, torch.zeros(1, 2, dtype=torch.float64), torch.zeros(1, dtype=torch.float64), 0.1)
    assert one.item() == pytest.approx(-(10.0**8) / 2 - math.log(2 * math.pi * 0.01), rel=1e-12)


def test_eight_gaussians_are_the_same_after_an_eighth_of_a_turn() -> None:
    x = EIGHT.sample(100, seeded())
    torch.testing.assert_close(EIGHT.log_prob(turned(x, math.pi / 4)), EIGHT.log_prob(x))
    assert torch.equal(EIGHT.component(turned(x, math.pi / 4)), (EIGHT.component(x) + 1) % 8)


def test_a_gaussian_is_named_by_its_angle() -> None:
    x = torch.tensor([[3.0, 0.1], [0.0, 3.0], [-2.0, -2.0]], dtype=torch.float64)
    assert [EIGHT.names[k] for k in EIGHT.component(x)] == ["0°", "90°", "225°"]


#: Angles of the blades of a pinwheel are rounded to single precision, for its draws and its density alike.
ROUNDED = 1e-5


def pinwheel_density(y: np.ndarray, tangential_std: float) -> float:
    """The sum over all f₁ of the class's docstring, of which Brent's method finds one in each change of sign."""
    total = 0.0
    for k in range(5):

        def angle(f1: float, k: int = k) -> float:
            return 2 * math.pi * k / 5 + math.exp(f1) / 4

        def off(f1: float, angle: Callable[[float], float] = angle) -> float:
            return y[0] * math.cos(angle(f1)) - y[1] * math.sin(angle(f1)) - f1

        nodes = np.linspace(-1.4, 3.4, 400)
        for i in np.flatnonzero(np.diff([off(f1) > 0 for f1 in nodes])):
            f1 = optimize.brentq(off, nodes[i], nodes[i + 1], xtol=1e-13)
            f2 = y[0] * math.sin(angle(f1)) + y[1] * math.cos(angle(f1))
            p = math.exp(-(((f1 - 1) / 0.3) ** 2 + (f2 / tangential_std) ** 2) / 2) / (0.6 * math.pi * tangential_std)
            total += p / (4 * abs(1 + math.exp(f1) / 4 * f2))
    return total / 5


@pytest.mark.parametrize("tangential_std", [0.05, 0.2])
def test_the_pinwheel_is_the_sum_over_roots_that_brent_finds(tangential_std: float) -> None:
    target = Pinwheel(name="pinwheel", tangential_std=tangential_std)
    x = target.sample(12, seeded())
    exact = [math.log(pinwheel_density(y, tangential_std)) for y in (x / 2).numpy()]
    assert target.log_prob(x).tolist() == pytest.approx(exact, abs=ROUNDED)


def test_the_pinwheel_is_the_same_after_a_fifth_of_a_turn() -> None:
    x = PINWHEEL.sample(100, seeded())
    found = PINWHEEL.log_prob(turned(x, 2 * math.pi / 5))
    torch.testing.assert_close(found, PINWHEEL.log_prob(x), rtol=0, atol=ROUNDED)
