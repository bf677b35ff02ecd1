"""Student's t against scipy's own tests, and the share of equal models that it calls different."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cifrun.reporting.significance import LEVEL, Sample, beyond_chance, differ, mean_over_seeds

NUMBERS = st.floats(-100, 100).map(lambda x: round(x, 3))


def sample(values: list[float], first: int = 0) -> Sample:
    return Sample({first + k: value for k, value in enumerate(values)})


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=8))
@settings(max_examples=200, deadline=None)
def test_same_seeds_are_compared_pair_by_pair(pairs: list[tuple[float, float]]) -> None:
    a, b = map(list, zip(*pairs, strict=True))
    differences = np.subtract(a, b)
    if np.ptp(differences) > 1e-9:
        p = stats.ttest_rel(a, b).pvalue
        if abs(p - LEVEL) > 1e-6:
            assert differ(sample(a), sample(b)) == (p < LEVEL)


@given(st.lists(NUMBERS, min_size=2, max_size=8), st.lists(NUMBERS, min_size=2, max_size=8))
@settings(max_examples=200, deadline=None)
def test_other_seeds_are_compared_by_welch(a: list[float], b: list[float]) -> None:
    if np.ptp(a) > 1e-9 or np.ptp(b) > 1e-9:
        p = stats.ttest_ind(a, b, equal_var=False).pvalue
        if abs(p - LEVEL) > 1e-6:
            assert differ(sample(a), sample(b, first=100)) == (p < LEVEL)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("shared", [True, False], ids=["same seeds", "other seeds"])
def test_few_equal_models_are_called_different(seeds: int, shared: bool) -> None:
    """5 % of 4 000 comparisons, within 4 standard errors (one false alarm in 16 000). Welch's may be fewer."""
    rng = np.random.default_rng(seeds)
    found = 0
    for _ in range(4000):
        a, b = rng.standard_normal((2, seeds))
        found += differ(sample(list(a)), sample(list(b), first=0 if shared else 100))
    error = math.sqrt(LEVEL * (1 - LEVEL) / 4000)
    assert found / 4000 < LEVEL + 4 * error
    if shared:
        assert found / 4000 > LEVEL - 4 * error


@pytest.mark.parametrize(("models", "seeds"), [(3, 3), (5, 5), (10, 5)])
def test_few_tables_of_equal_models_call_any_of_them_worse(models: int, seeds: int) -> None:
    """At most 5 % of 800, the best of each table chosen by its mean (4 standard errors, one false alarm in 30 000)."""
    rng = np.random.default_rng(models)
    found = 0
    for _ in range(800):
        all_of_them = [sample(list(values)) for values in rng.standard_normal((models, seeds))]
        best = max(all_of_them, key=lambda one: one.mean)
        found += any(differ(one, best, models) for one in all_of_them if one is not best)
    assert 0 < found / 800 < LEVEL + 4 * math.sqrt(LEVEL * (1 - LEVEL) / 800)


def test_one_seed_has_its_error_over_the_test_data() -> None:
    one, other = Sample({0: 1.0}, se=0.1, count=1000), Sample({0: 1.3}, se=0.1, count=1000)
    assert differ(one, other) and not differ(one, Sample({0: 1.27}, se=0.1, count=1000))
    assert not differ(one, Sample({0: 1.3}, se=0.1, count=3))  # three data say little of their error
    assert not differ(one, sample([1.0, 1.6]))


def test_without_an_error_any_difference_counts() -> None:
    assert differ(sample([1.0, 1.0]), sample([1.5, 1.5])) and not differ(sample([1.0, 1.0]), sample([1.0, 1.0]))
    assert not beyond_chance(math.nan, 1.0, 3)


def test_the_mean_over_seeds_has_its_standard_error() -> None:
    assert mean_over_seeds([1.0, 2.0, 4.5]) == pytest.approx((2.5, np.std([1.0, 2.0, 4.5], ddof=1) / math.sqrt(3)))
    assert mean_over_seeds([0.1] * 3) == (pytest.approx(0.1), 0.0)
