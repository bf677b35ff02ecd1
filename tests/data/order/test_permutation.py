"""Keyed permutations: exactly permutations, and without structure by tests of chance.

Seeds are fixed, so nothing here fails by chance from run to run; each statistical test has a threshold of p = 1e-6, so
that one seed in a million would raise a false alarm.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from cifrun.compute.rng import derive
from cifrun.data.order.permutation import Drawn, Keyed, permutation

ALARM = 1e-6
SIZES = [*range(1, 70), *(2**k + d for k in range(7, 18) for d in (-1, 0, 1)), 999, 10_007, 65_025, 123_456]
LARGE = 1_000_000_007


@pytest.mark.parametrize("key", [0, 1, 2**63 - 1])
def test_every_place_has_one_datum_of_its_own(key: int) -> None:
    for n in SIZES:
        order = Keyed(n, key)(torch.arange(n))
        assert torch.equal(order.sort().values, torch.arange(n)), n


@pytest.mark.parametrize("n", [2**24 + 1, LARGE, 2**40, 2**62 - 1])
def test_large_ones_stay_in_range_without_repeats(n: int) -> None:
    """Without repeats among 200,000 places; of independent draws from 2²⁴ + 1, a thousand would repeat."""
    ends = [torch.arange(start, start + 50_000) for start in (0, n // 3, n // 2, n - 50_000)]
    order = Keyed(n, 5)(torch.cat(ends))
    assert int(order.min()) >= 0 and int(order.max()) < n
    assert len(order.unique()) == len(order)


def test_places_are_looked_up_alone_or_together() -> None:
    order = Keyed(10_000, 3)
    together = order(torch.arange(10_000))
    assert torch.equal(order(torch.tensor([7, 0, 9_999])), together[[7, 0, 9_999]])
    assert order(torch.empty(0, dtype=torch.long)).tolist() == []


def test_few_are_drawn_and_many_are_not() -> None:
    assert isinstance(permutation(2**24, 1), Drawn) and isinstance(permutation(2**24 + 1, 1), Keyed)


@pytest.mark.parametrize("n", [2**24 + 1, LARGE, 2**50 + 3])
def test_neighbouring_places_hold_independent_uniform_data(n: int) -> None:
    m = 2**19
    order = Keyed(n, derive(0, n))(torch.arange(n // 7, n // 7 + m)).numpy()
    u = order / n
    counts = np.histogram(u, 1000, (0, 1))[0]
    assert stats.chisquare(counts).pvalue > ALARM
    for lag in (1, 2, 3, 1000):
        r = np.corrcoef(u[:-lag], u[lag:])[0, 1]
        assert 2 * stats.norm.sf(abs(r) * m**0.5) > ALARM, lag
    pairs = np.histogram2d(u[::2], u[1::2], 32, [(0, 1), (0, 1)])[0]
    assert stats.chisquare(pairs.ravel()).pvalue > ALARM
    assert stats.chisquare(np.bincount(order % 64, minlength=64)).pvalue > ALARM


def test_keys_give_unrelated_orders() -> None:
    """Two independent permutations of n agree in about one place, by Poisson's law; and ranks have no correlation."""
    n, places = 4001, torch.arange(4001)
    orders = [Keyed(n, derive(seed, epoch))(places) for seed in range(4) for epoch in range(8)]
    pairs = [(a, b) for i, a in enumerate(orders) for b in orders[:i]]
    agreements = sum(int((a == b).sum()) for a, b in pairs)
    assert stats.poisson.cdf(agreements, len(pairs)) > ALARM / 2
    assert stats.poisson.sf(agreements - 1, len(pairs)) > ALARM / 2
    z = [np.corrcoef(a.numpy(), b.numpy())[0, 1] * (n - 1) ** 0.5 for a, b in pairs]
    assert stats.chi2.sf(np.square(z).sum(), len(z)) > ALARM


def test_a_place_holds_each_datum_equally_often_over_keys() -> None:
    n, keys = 97, 20_000
    orders = torch.stack([Keyed(n, key)(torch.tensor([0, 50, 96])) for key in range(keys)])
    for place in range(3):
        assert stats.chisquare(orders[:, place].bincount(minlength=n)).pvalue > ALARM
    assert stats.binomtest(int((orders[:, 0] < orders[:, 2]).sum()), keys).pvalue > ALARM
