"""One column of a table: how its values repeat, and the grid that they were rounded to."""

from __future__ import annotations

import numpy as np

__all__ = ["PER_VALUE", "Column"]

#: Rows a distinct value, on average, from which a column counts as discrete: a spike costs a flow some parameters and
#: gains it log(step / width) for each row. Columns of scikit-learn's tables have up to 8 (blood sugar, 442 rows). So
#: few distinct values that they are names rather than measurements need fewer rows: iris' column of the fewest has 22.
PER_VALUE, FEW, PER_NAME = 10, 15, 4
#: Rows below which a column is judged by its commonest value, or two: if half hold it, or a tenth, and so many times
#: what the next has. Small tables are rounded measurements as a rule (in the table diabetes 29 % share a ratio, 24 %
#: another, and more a third).
SMALL, HALF, TENTH, TIMES = 500, 0.5, 0.1, 5
#: Share of the rows at values that `PER_VALUE` rows or more hold, and share of those whose value is not theirs alone,
#: from which values repeat. In the table breast_cancer these are 2 % and 49 %; float32 itself makes 1 % of 100 000
#: uniform numbers meet another.
AT_SPIKES, REPEATED = 0.05, 2 / 3
#: Decimals of the grids that are looked for, and the part of a step that a number's precision may be.
DECIMALS, OFF = range(-3, 9), 0.02


class Column:
    """One column of the rows that are looked at, (rows,), in float64.

    Attributes:
        counts, distinct: For each row, how many have its value; the number of distinct values.
        most, often, next, third: The commonest value, how many rows have it, and how many the next two.
        median, spread: Median and interquartile range.
        step: That of the coarsest grid of decimal numbers that all values are on, 0 if there is none.
    """

    def __init__(self, x: np.ndarray, eps: float) -> None:
        unique, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
        self.distinct = len(unique)
        self.counts = counts[inverse]
        self.most = float(unique[counts.argmax()])
        self.third, self.next, self.often = sorted([0, 0, *counts.tolist()])[-3:]
        self.step = _step(unique, eps)
        low, self.median, high = np.percentile(x, (25, 50, 75))
        self.spread = float(high - low)

    @property
    def is_discrete(self) -> bool:
        """Whether each value has many rows, on average, or values are few."""
        rows = len(self.counts)
        return self.distinct * PER_VALUE <= rows or (self.distinct <= FEW and self.distinct * PER_NAME <= rows)

    @property
    def repeats(self) -> bool:
        """Whether some values have more rows than they should."""
        n = len(self.counts)
        if n < SMALL:
            two = self.often + self.next >= TENTH * n and self.next >= max(TENTH / 2 * n, TIMES * self.third)
            return self.often >= HALF * n or self.often >= max(TENTH * n, TIMES * self.next) or two
        return (self.counts >= PER_VALUE).mean() >= AT_SPIKES or (self.counts > 1).mean() >= REPEATED


def _step(values: np.ndarray, eps: float) -> float:
    """The step of the coarsest grid of decimal numbers that all distinct values are on, 0 if there is none."""
    largest = float(np.abs(values).max())
    for decimals in DECIMALS:
        if not largest * 10.0**decimals * eps <= OFF:  # here, and on finer grids, every number is
            return 0.0
        for some in (values[:16], values):
            scaled = some * 10.0**decimals
            multiples = scaled.round()
            if not (np.abs(scaled - multiples) <= 4 * eps * np.abs(scaled)).all():
                break
        else:
            whole = multiples.astype(np.int64)
            return float(np.gcd.reduce(whole - whole[0])) * 10.0**-decimals
    return 0.0
