"""Where the mass is: truths measured against themselves, and mixtures and Gaussians whose shares are known.

Seeds are fixed. Bounds are five standard errors: under fresh seeds a correct program would fail one of all these about
once in ten thousand times.
"""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from cifrun.config.schema import check
from cifrun.data.base import Target
from cifrun.diagnostics import topology
from cifrun.registry import DATASETS

TARGETS = [name for name in DATASETS if issubclass(DATASETS[name], Target)]


def make(name: str) -> Target:
    return check(DATASETS[name], {"name": name})


IN_PIECES = [name for name in TARGETS if make(name).components]


def draws(target: Target, n: int, seed: int = 5) -> torch.Tensor:
    return target.sample(n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", TARGETS)
def test_one_in_ten_thousand_of_the_truth_is_off_its_support(name: str) -> None:
    target, n = make(name), 100_000
    level = topology.support_level(target, draws=100_000)
    share = topology.mass_off_support(target, draws(target, n).float(), level)["mass_off_support"]
    if math.isinf(target.log_prob(torch.tensor([[1e3, 1e3]])).item()) and name != "two_marginals":
        assert share == 0  # a constant density: nothing but the outside is off
    else:
        # The level is itself the tenth smallest of 100 000: both errors are those of a count of ten.
        assert 0 < share * n < 10 + 5 * math.sqrt(20)


def test_what_is_outside_is_off_the_support() -> None:
    target = make("two_uniforms")
    level = topology.support_level(target)
    x = draws(target, 3000)
    x[:600] = 0.0  # the middle of the gap
    x[600:700] = math.nan
    result = topology.mass_off_support(target, x, level)
    assert result["mass_off_support"] == pytest.approx(700 / 3000)
    assert result["mass_off_support_se"] == pytest.approx(math.sqrt(0.2333 * 0.7667 / 3000), rel=1e-3)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_coverage_of_a_gaussian_by_another(scale: float) -> None:
    """Truth N(0, 1), model N(0, scale²): its region is |x| ≤ 1.96 scale."""
    model = torch.distributions.Normal(0.0, scale)
    generator = torch.Generator().manual_seed(0)
    z, x = torch.randn(2, 20_000, generator=generator)
    result = topology.coverage(model.log_prob(scale * z), model.log_prob(x))
    expected = 2 * stats.norm.cdf(stats.norm.ppf(0.975) * scale) - 1
    assert abs(result["coverage"] - expected) < 5 * result["coverage_se"]


def test_the_standard_error_of_coverage_is_what_repetitions_show() -> None:
    model, generator = torch.distributions.Normal(0.0, 1.0), torch.Generator().manual_seed(0)
    results = [topology.coverage(*model.log_prob(torch.randn(2, 1000, generator=generator))) for _ in range(300)]
    spread = torch.tensor([r["coverage"] for r in results]).std().item()
    said = sum(r["coverage_se"] for r in results) / len(results)
    assert said == pytest.approx(spread, rel=0.2)


@pytest.mark.parametrize("name", IN_PIECES)
def test_components_of_the_truth_have_their_masses(name: str) -> None:
    target, n = make(name), 20_000
    result = topology.component_masses(target, draws(target, n).float())
    rows = result["components"]
    assert sum(row["truth"] for row in rows) == pytest.approx(1) and sum(row["mass"] for row in rows) == pytest.approx(
        1
    )
    assert [row["name"] for row in rows] == [*target.components, "none"]
    for row in rows:
        assert abs(row["mass"] - row["truth"]) < 5 * row["mass_se"]
    assert result["mass_misplaced"] < 3 * math.sqrt(len(rows) / n)


@pytest.mark.parametrize("name", IN_PIECES)
def test_components_do_not_cut_through_the_mass(name: str) -> None:
    """Points that are moved a little stay in their component, unless pieces touch there (no more than 5 % do)."""
    target = make(name)
    x = draws(target, 5000)
    moved = target.component(x + 1e-3 * torch.randn_like(x))
    label = target.component(x)
    assert ((moved != label) & (moved >= 0)).double().mean() < 0.05


def test_mass_in_the_wrong_component_is_counted() -> None:
    target = make("eight_gaussians")
    x = draws(target, 40_000)
    label = target.component(x)
    # A model that finds six of eight, and puts their mass into one other.
    x = torch.where(((label == 2) | (label == 5))[:, None], torch.tensor([4 / math.sqrt(2), 0.0]).double(), x)
    result = topology.component_masses(target, x)
    mass = [row["mass"] for row in result["components"]]
    assert mass[2] == mass[5] == 0 and abs(mass[0] - 3 / 8) < 0.015
    assert abs(result["mass_misplaced"] - 1 / 4) < 5 * result["mass_misplaced_se"]


def test_one_piece_has_no_components() -> None:
    for name in ("annulus", "one_uniform", "swiss_roll"):
        assert topology.component_masses(make(name), torch.zeros(10, 2)) == {}


def test_a_share_of_none_has_an_error_too() -> None:
    p, se = topology.share(torch.zeros(100, dtype=torch.bool))
    assert p == 0 and 0 < se < 0.02
