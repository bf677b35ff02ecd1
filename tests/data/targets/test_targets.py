"""Every toy target: its density is a density, its samples come from it, and its splits are what they should be.

All tests run over whatever is registered as a target, so that a new one is tested by being registered; what every one
promises is written down in `cifrun.testing`. Seeds are fixed: a test that passes once passes always. What chance a
correct target has to fail under a fresh seed is said where it is not negligible.
"""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy import integrate, special
from torch import Tensor

from cifrun.config.schema import check
from cifrun.data.base import Target
from cifrun.errors import ConfigError
from cifrun.registry import DATASETS
from cifrun.testing.datasets import CHECKS, TARGET_CHECKS, DatasetCase
from cifrun.testing.promises import keep

NAMES = [name for name in DATASETS if issubclass(DATASETS[name], Target)]
SMOOTH = {"circles", "eight_gaussians", "pinwheel", "rings", "swiss_roll", "two_moons", "two_spirals"}
ENTROPY = {
    "annulus": math.log(3 * math.pi),
    "checkerboard": math.log(32),
    "one_uniform": 0.0,
    "split_gaussian": math.log(2 * math.pi * math.e),
    "two_lines": math.log(0.04),
    "two_marginals": 0.5 * math.log(2 * math.pi * math.e),
    "two_uniforms": math.log(4),
}
#: Cells of the fine grid over the window, a multiple of 12; the lines of two_lines are two cells wide.
CELLS = {"two_lines": (600, 240)}

every_target = pytest.mark.parametrize("name", NAMES)


def make(name: str, **settings: Any) -> Target:
    return check(DATASETS[name], {"name": name, **settings})


CASES = {
    name: DatasetCase(name, cells=CELLS.get(name, (300, 300)), mass_error=2e-6 if name in SMOOTH else 1e-2)
    for name in NAMES
}


def draws(name: str) -> Tensor:
    return CASES[name].draws


@every_target
@pytest.mark.parametrize("promise", {**CHECKS, **TARGET_CHECKS})
def test_a_target_keeps_its_promise(promise: str, name: str) -> None:
    """Of the χ² test of the samples a false alarm has a chance of 1 in 700 for all fourteen, under one fresh seed."""
    keep({**CHECKS, **TARGET_CHECKS}[promise], CASES[name])


@pytest.mark.parametrize("name", sorted(ENTROPY))
def test_entropy(name: str) -> None:
    """The mean of −log p is the entropy, within 5 standard errors: exactly where p is constant."""
    log_prob = make(name).log_prob(draws(name))
    margin = 5 * log_prob.std().item() / math.sqrt(len(log_prob)) + 1e-9
    assert -log_prob.mean().item() == pytest.approx(ENTROPY[name], abs=margin)


@pytest.mark.parametrize("noise", [0.05, 0.1, 1.0])
@pytest.mark.parametrize("name", ["two_moons", "two_spirals"])
def test_other_noise_integrates_to_one(name: str, noise: float) -> None:
    target = make(name, noise=noise)
    (a, b), (c, d) = target.window
    axes = (low + (high - low) / 200 * (torch.arange(200) + 0.5).double() for low, high in ((a, b), (c, d)))
    total = target.log_prob(torch.cartesian_prod(*axes)).exp().sum().item() * (b - a) * (d - c) / 200**2
    assert total == pytest.approx(1, abs=1e-4)


def test_two_spirals_against_adaptive_quadrature() -> None:
    """The box ∗ Gaussian as the difference of two normal distribution functions, the curve by QUADPACK."""
    x = draws("two_spirals")[:8].numpy()

    def along(d: float) -> float:
        return 6 * (special.ndtr(d / 0.1) - special.ndtr((d - 1 / 6) / 0.1))

    def joint(t: float, x1: float, x2: float) -> float:
        c1, c2 = -t * math.cos(t) / 3, t * math.sin(t) / 3
        both = along(x1 - c1) * along(x2 - c2) + along(-x1 - c1) * along(-x2 - c2)
        return both * t / (3 * math.pi) ** 2

    breaks = np.linspace(0, 3 * math.pi, 31)
    exact = [sum(integrate.quad(joint, a, b, args=tuple(p))[0] for a, b in pairwise(breaks)) for p in x]
    assert make("two_spirals").log_prob(draws("two_spirals")[:8]).numpy() == pytest.approx(np.log(exact), abs=1e-5)


def test_ring_against_quadrature() -> None:
    """The Bessel function's ring is the average of Gaussians around a circle."""
    x = draws("rings")[:50]
    angle = torch.arange(4000, dtype=torch.float64) * (2 * math.pi / 4000)
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    centres = torch.cat([radius * circle for radius in (0.75, 1.5, 2.25, 3.0)])
    squared = (x[:, None] - centres).square().sum(-1)
    exact = (-squared / (2 * 0.08**2)).logsumexp(-1) - math.log(len(centres) * 2 * math.pi * 0.08**2)
    assert torch.allclose(make("rings").log_prob(x), exact, atol=1e-9)


@every_target
def test_refuses_parameters_out_of_range(name: str) -> None:
    own = {f.name for f in dataclasses.fields(DATASETS[name])} - {f.name for f in dataclasses.fields(Target)}
    for key in own:
        for value in (-1.0, math.inf, "much"):
            with pytest.raises(ConfigError, match=key):
                make(name, **{key: value})


@every_target
def test_yaml_holds_the_defaults(name: str) -> None:
    """`conf/dataset/NAME.yaml` sets every key there is, to the default that Python has."""
    path = Path(__file__).parents[3] / "conf" / "dataset" / f"{name}.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert data.pop("seed") == "${seed}"
    assert {*data, "seed"} == {f.name for f in dataclasses.fields(DATASETS[name])}
    assert check(DATASETS[name], data) == make(name)
