"""Rings and the annulus: densities by angle, and how much mass is between which radii."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cifrun.data.targets.rings import Annulus, BlurredCircles, Circles, Rings

RINGS = Rings(name="rings")


def at(radius: float, count: int = 5) -> Tensor:
    """Points at this distance from the centre."""
    angle = torch.linspace(0, 6, count, dtype=torch.float64)
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


def test_ring_against_quadrature() -> None:
    """The Bessel function's ring is the average of Gaussians around a circle."""
    x = RINGS.sample(50, torch.Generator().manual_seed(0))
    angle = torch.arange(4000, dtype=torch.float64) * (2 * math.pi / 4000)
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    centres = torch.cat([radius * circle for radius in (0.75, 1.5, 2.25, 3.0)])
    squared = (x[:, None] - centres).square().sum(-1)
    exact = (-squared / (2 * 0.08**2)).logsumexp(-1) - math.log(len(centres) * 2 * math.pi * 0.08**2)
    assert torch.allclose(RINGS.log_prob(x), exact, atol=1e-9)


@pytest.mark.parametrize("target", [RINGS, Rings(name="rings", noise=0.4), Circles(name="circles")], ids=str)
def test_the_mass_between_two_radii_is_the_integral_of_the_density(target: BlurredCircles) -> None:
    """∫ 2πr p(r) dr over the component, by the trapezoidal rule."""
    r = torch.linspace(0, 8, 80_001, dtype=torch.float64)
    x = torch.stack([r, torch.zeros_like(r)], 1)
    weight = 2 * math.pi * r * target.log_prob(x).exp() * (8 / 80_000)
    label = target.component(x)
    found = [weight[label == k].sum().item() for k in range(len(target.radii))]
    assert found == pytest.approx(list(target.components.values()), abs=1e-4)
    assert sum(target.components.values()) == pytest.approx(1, abs=1e-9)


def test_a_ring_is_named_by_its_radius() -> None:
    names = list(RINGS.components)
    assert names == ["r = 0.75", "r = 1.5", "r = 2.25", "r = 3"]
    for radius, name in zip((0.0, 1.4, 2.0, 9.0), names, strict=True):
        assert {names[k] for k in RINGS.component(at(radius))} == {name}


def test_the_annulus_is_flat_between_its_circles_and_nothing_elsewhere() -> None:
    annulus = Annulus(name="annulus")
    for radius in (1.001, 1.5, 1.999):
        assert annulus.log_prob(at(radius)).tolist() == [-math.log(3 * math.pi)] * 5
    for radius in (0.0, 0.999, 2.001):
        assert annulus.log_prob(at(radius)).tolist() == [-math.inf] * 5
