"""Every toy target: its density is a density, its samples come from it, and its splits are what they should be.

All tests run over whatever is registered as a target, so that a new one is tested by being registered. Seeds are fixed:
a test that passes once passes always. What chance a correct target has to fail under a fresh seed is said where it is
not negligible.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy import integrate, special, stats
from torch import Tensor

from cifrun.config.schema import check
from cifrun.data.base import Target
from cifrun.errors import ConfigError
from cifrun.registry import DATASETS

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
#: Cells of the fine grid over the window, a multiple of BINS; the lines of two_lines are two cells wide.
CELLS = {"two_lines": (600, 240)}
BINS = 12

every_target = pytest.mark.parametrize("name", NAMES)


def make(name: str, **settings: Any) -> Target:
    return check(DATASETS[name], {"name": name, **settings})


@cache
def draws(name: str, n: int = 20_000) -> Tensor:
    return make(name).sample(n, torch.Generator().manual_seed(1))


@cache
def grid(name: str) -> tuple[Tensor, Tensor, float]:
    """Midpoints of the cells, (n₁, n₂, 2), the log-density there, (n₁, n₂), and the area of a cell."""
    target = make(name)
    axes, area = [], 1.0
    for (low, high), n in zip(target.window, CELLS.get(name, (300, 300)), strict=True):
        axes.append(low + (high - low) / n * (torch.arange(n, dtype=torch.float64) + 0.5))
        area *= (high - low) / n
    x = torch.cartesian_prod(*axes).unflatten(0, (len(axes[0]), len(axes[1])))
    return x, target.log_prob(x.flatten(0, 1)).view(x.shape[:2]), area


def inside(x: Tensor, box: Any) -> Tensor:
    low, high = torch.tensor(box, dtype=torch.float64).T
    return ((x >= low) & (x <= high)).all(-1)


@every_target
def test_integrates_to_one(name: str) -> None:
    _, log_prob, area = grid(name)
    tolerance = 2e-6 if name in SMOOTH else 1e-2
    assert log_prob.exp().sum().item() * area == pytest.approx(1, abs=tolerance)


@every_target
def test_samples_have_the_density(name: str) -> None:
    """χ² of 20 000 draws in 12 × 12 bins, those that expect fewer than 5 put together with what lies outside.

    Fails at p < 1e-4: a false alarm under one fresh seed in 10 000 for each target, in 700 for all fourteen.
    """
    x = draws(name)
    _, log_prob, area = grid(name)
    rows, columns = (n // BINS for n in log_prob.shape)
    share = log_prob.exp().unflatten(1, (BINS, columns)).unflatten(0, (BINS, rows)).sum((1, 3)).numpy() * area
    observed = np.histogramdd(x.numpy(), bins=(BINS, BINS), range=make(name).window)[0]
    expected = share * len(x)
    large = expected >= 5
    counts = np.append(observed[large], len(x) - observed[large].sum())
    means = np.append(expected[large], max(len(x) - expected[large].sum(), 1e-3))
    if means[-1] < 5:  # too little for a bin of its own: goes to the smallest
        smallest = means[:-1].argmin()
        counts[smallest], means[smallest] = counts[smallest] + counts[-1], means[smallest] + means[-1]
        counts, means = counts[:-1], means[:-1]
    chi2 = ((counts - means) ** 2 / means).sum()
    assert stats.chi2.sf(chi2, len(means) - 1) > 1e-4


@every_target
def test_window_holds_the_samples(name: str) -> None:
    """A correct window loses one of 20 000 draws in at most 2 seeds of 100."""
    assert inside(draws(name), make(name).window).all()


@every_target
def test_shapes_and_finite_log_prob(name: str) -> None:
    x = draws(name)
    log_prob = make(name).log_prob(x)
    assert x.shape == (20_000, 2) and x.dtype == torch.float64
    assert log_prob.shape == (20_000,) and log_prob.dtype == torch.float64
    assert log_prob.isfinite().all()
    assert make(name).log_prob(x[:0]).shape == (0,)
    assert make(name).log_prob(x.float()).isfinite().all()  # rounding to float32 crosses no edge


@every_target
def test_same_value_alone_and_in_a_batch(name: str) -> None:
    x = draws(name)[:5000]
    whole = make(name).log_prob(x)
    for i in (0, 17, 4999):
        assert make(name).log_prob(x[i : i + 1]).item() == pytest.approx(whole[i].item(), abs=1e-9)


@every_target
def test_support(name: str) -> None:
    target = make(name)
    far = 20 * torch.randn(500, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    if target.support is None:
        assert target.log_prob(far).isfinite().all()
        return
    assert inside(draws(name), target.support).all()
    x, log_prob, _ = grid(name)
    assert (log_prob[~inside(x, target.support)] == -math.inf).all()
    far = far[~inside(far, target.support)]
    assert len(far) and (target.log_prob(far) == -math.inf).all()


@every_target
def test_max_log_prob(name: str) -> None:
    target = make(name)
    assert target.max_log_prob == pytest.approx(target.log_prob(draws(name)).max().item(), abs=0.1)


@pytest.mark.parametrize("name", sorted(ENTROPY))
def test_entropy(name: str) -> None:
    """The mean of −log p is the entropy, within 5 standard errors: exactly where p is constant."""
    log_prob = make(name).log_prob(draws(name))
    margin = 5 * log_prob.std().item() / math.sqrt(len(log_prob)) + 1e-9
    assert -log_prob.mean().item() == pytest.approx(ENTROPY[name], abs=margin)


@every_target
def test_more_nodes_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the nodes of a numerical integral: the same log p to 1e-4 where p exceeds a millionth of its maximum."""
    x, log_prob, _ = grid(name)
    points = torch.cat([draws(name)[:5000], x[::3, ::3].flatten(0, 1)])
    before = make(name).log_prob(points)
    kept = before > log_prob.max() - math.log(1e6)
    monkeypatch.setattr(DATASETS[name], "resolution", 2)
    assert (make(name).log_prob(points[kept]) - before[kept]).abs().max() < 1e-4


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
def test_same_seed_same_data(name: str) -> None:
    first, again, other = (make(name, num_train=500, seed=seed).load() for seed in (3, 3, 4))
    for split in ("train", "valid", "test"):
        assert torch.equal(getattr(first, split), getattr(again, split))
    assert not torch.equal(first.train, other.train)


@every_target
def test_splits_share_no_point(name: str) -> None:
    sizes = {"num_train": 700, "num_valid": 300, "num_test": 500}
    data = [make(name, **sizes, seed=seed).load() for seed in (0, 1)]
    splits = [split for d in data for split in (d.train, d.valid, d.test)]
    assert [len(split) for split in splits] == [700, 300, 500] * 2
    assert all(split.dtype == torch.float32 for split in splits)
    assert len(torch.cat(splits).unique(dim=0)) == 3000
    assert data[0].shape == (2,) and data[0].target == make(name, **sizes)


@every_target
def test_splits_are_uncorrelated(name: str) -> None:
    """Row by row, two splits of 2000 points have a correlation below 5 / √2000 in every coordinate."""
    data = make(name, num_train=2000, num_valid=2000, num_test=2000).load()
    correlation = np.corrcoef(torch.cat([data.train, data.valid, data.test], -1).numpy().T)
    same_split = np.kron(np.eye(3), np.ones((2, 2))).astype(bool)
    assert np.abs(correlation[~same_split]).max() < 5 / math.sqrt(2000)


@every_target
@pytest.mark.parametrize("key", ["num_train", "num_valid", "num_test"])
def test_refuses_an_empty_split(name: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        make(name, **{key: 0})


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


@every_target
def test_docstring_opens_with_one_sentence(name: str) -> None:
    first = DATASETS.describe()[name]
    assert first.endswith(".") and len(first) <= 110
