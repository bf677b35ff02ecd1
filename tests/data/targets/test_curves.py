"""Curves blurred by noise: their densities against adaptive quadrature along the curve."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch import Tensor

from cifrun.data.targets.curves import NoisyCurve, SwissRoll, TwoMoons, TwoSpirals

MOONS, ROLL, SPIRALS = TwoMoons(name="two_moons"), SwissRoll(name="swiss_roll"), TwoSpirals(name="two_spirals")


def draws(target: NoisyCurve, count: int) -> Tensor:
    return target.sample(count, torch.Generator().manual_seed(0))


def test_two_moons_against_adaptive_quadrature() -> None:
    """By QUADPACK: t is uniform on [0, π], and each moon has half of the mass."""
    x = draws(MOONS, 8)

    def joint(t: float, x1: float, x2: float) -> float:
        centres = ((math.cos(t), math.sin(t)), (1 - math.cos(t), 0.5 - math.sin(t)))
        return sum(stats.norm.pdf(x1, a, 0.1) * stats.norm.pdf(x2, b, 0.1) for a, b in centres) / (2 * math.pi)

    breaks = np.linspace(0, math.pi, 5)
    exact = [sum(integrate.quad(joint, a, b, args=tuple(p))[0] for a, b in pairwise(breaks)) for p in x.numpy()]
    assert MOONS.log_prob(x).numpy() == pytest.approx(np.log(exact), abs=1e-6)


def test_swiss_roll_against_simpsons_rule() -> None:
    """With 2 000 panels of t, in the units of before the division by 5: hence log 25."""
    x = draws(ROLL, 50)
    t = torch.linspace(1.5 * math.pi, 4.5 * math.pi, 4_001, dtype=torch.float64)
    squared = (5 * x[:, None] - torch.stack([t * t.cos(), t * t.sin()], 1)).square().sum(-1)
    total = integrate.simpson((-squared / 2).exp().numpy(), dx=1 / 4_000)
    assert ROLL.log_prob(x).numpy() == pytest.approx(np.log(total) + math.log(25 / (2 * math.pi)), abs=1e-6)


def test_two_spirals_against_adaptive_quadrature() -> None:
    """The box ∗ Gaussian as the difference of two normal distribution functions, the curve by QUADPACK."""
    x = draws(SPIRALS, 8)

    def along(d: float) -> float:
        return 6 * (special.ndtr(d / 0.1) - special.ndtr((d - 1 / 6) / 0.1))

    def joint(t: float, x1: float, x2: float) -> float:
        c1, c2 = -t * math.cos(t) / 3, t * math.sin(t) / 3
        both = along(x1 - c1) * along(x2 - c2) + along(-x1 - c1) * along(-x2 - c2)
        return both * t / (3 * math.pi) ** 2

    breaks = np.linspace(0, 3 * math.pi, 31)
    exact = [sum(integrate.quad(joint, a, b, args=tuple(p))[0] for a, b in pairwise(breaks)) for p in x.numpy()]
    assert SPIRALS.log_prob(x).numpy() == pytest.approx(np.log(exact), abs=1e-5)


@pytest.mark.parametrize("noise", [0.05, 0.1, 1.0])
@pytest.mark.parametrize("kind", [TwoMoons, TwoSpirals])
def test_other_noise_integrates_to_one(kind: type[NoisyCurve], noise: float) -> None:
    target = kind(name="curve", noise=noise)
    (a, b), (c, d) = target.window
    axes = (low + (high - low) / 200 * (torch.arange(200) + 0.5).double() for low, high in ((a, b), (c, d)))
    total = target.log_prob(torch.cartesian_prod(*axes)).exp().sum().item() * (b - a) * (d - c) / 200**2
    assert total == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("target", [MOONS, SPIRALS], ids=lambda target: target.name)
def test_a_point_and_its_reflection_are_as_probable_and_of_the_other_piece(target: NoisyCurve) -> None:
    assert target.mirror is not None
    x = draws(target, 200)
    image = torch.tensor(target.mirror, dtype=torch.float64) - x
    torch.testing.assert_close(target.log_prob(image), target.log_prob(x), rtol=0, atol=1e-9)
    assert torch.equal(target.component(image), 1 - target.component(x))
    assert set(target.component(x).tolist()) == {0, 1}


def test_a_moon_is_named_by_where_it_is() -> None:
    x = torch.tensor([[0.0, 1.0], [1.0, -0.5]], dtype=torch.float64)
    assert [MOONS.names[k] for k in MOONS.component(x)] == ["upper", "lower"]


def test_a_curve_in_one_piece_has_no_component() -> None:
    assert ROLL.components == {} and ROLL.component(draws(ROLL, 3)).tolist() == [-1] * 3
