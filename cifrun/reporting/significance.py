"""Whether two means differ by more than chance: Student's t test, at 5 %, two-sided.

    seed by seed     d_i = a_i − b_i,    t = d̄ / (s_d / √n),                     n − 1 degrees of freedom
    else (Welch)     t = (ā − b̄) / √(se_a² + se_b²),      (se_a² + se_b²)² / (se_a⁴/ν_a + se_b⁴/ν_b) of them

With few seeds the error itself is uncertain: "two standard errors" calls equal models different in 29 % of comparisons
with two seeds and in 18 % with three; this does in 5 % of them, if what differs from seed to seed is about normal.
Of more than two models, 5 % is for all of one comparison: one metric on one dataset. A table of several such metrics
has more false alarms. With one repetition the error is that over the test data, which knows nothing of other seeds:
such a test compares two trained models, and says nothing of others that the same settings give.

References: Student, "The probable error of a mean", Biometrika 1908; Welch, "The generalization of ‘Student's’ problem
when several different population variances are involved", Biometrika 1947.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..cif.importance import mean_se

__all__ = ["LEVEL", "Sample", "differ", "mean", "mean_over_seeds"]

#: The share of comparisons of equal models, in one metric on one dataset, in which some are called different.
LEVEL = 0.05


def mean(values: Sequence[float]) -> float:
    """The mean, also of numbers whose sum is too large."""
    try:
        return statistics.fmean(values)
    except OverflowError:
        return math.fsum(value / len(values) for value in values)


def mean_over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """The mean of n ≥ 2 numbers, and its standard error s/√n, s their standard deviation."""
    if len(set(values)) == 1:  # the mean of equal numbers may be rounded
        return values[0], 0.0
    return mean_se(torch.tensor(values, dtype=torch.float64))


@dataclass(frozen=True)
class Sample:
    """A number of several repetitions, by which each is; of one repetition, with its error over the test data.

    Attributes:
        values: By repetition.
        se: Of a single value, its standard error over `count` data; None if it has none.
        count: Test data.
    """

    values: Mapping[Any, float]
    se: float | None = None
    count: int = 2

    @property
    def mean(self) -> float:
        return mean(list(self.values.values()))

    def error(self) -> tuple[float, int]:
        """The standard error of the mean, and its degrees of freedom."""
        if len(self.values) > 1:
            return mean_over_seeds(list(self.values.values()))[1], len(self.values) - 1
        return self.se or 0.0, max(1, self.count - 1)


def differ(a: Sample, b: Sample, models: int = 2) -> bool:
    """Whether the means differ at the level; seed by seed if both have the same repetitions, and more than one.

    Arguments:
        models: How many there are, of which these are two. The best of K equal models is the best by chance, and all
            K (K − 1) / 2 pairs had that chance: each is tested at the level divided by their number (Bonferroni).
    """
    level = LEVEL / max(1, math.comb(models, 2))
    if len(a.values) > 1 and a.values.keys() == b.values.keys():
        difference, error = mean_over_seeds([a.values[k] - b.values[k] for k in a.values])
        return beyond_chance(difference, error, len(a.values) - 1, level)
    (se_a, free_a), (se_b, free_b) = a.error(), b.error()
    error = math.hypot(se_a, se_b)
    free = 1.0 if error == 0 else 1 / ((se_a / error) ** 4 / free_a + (se_b / error) ** 4 / free_b)
    return beyond_chance(a.mean - b.mean, error, free, level)


def beyond_chance(difference: float, error: float, freedom: float, level: float = LEVEL) -> bool:
    """Whether a difference with that standard error is one at the level. Without an error, any difference is."""
    from scipy.special import stdtr  # a tenth of a second to import

    if math.isnan(difference):
        return False
    if error == 0:
        return difference != 0
    return bool(2 * stdtr(freedom, -abs(difference) / error) < level)
