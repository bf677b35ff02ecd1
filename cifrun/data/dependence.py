"""Columns that are linear functions of others, in all rows or in most, whatever they were rounded to.

Column k is one of those before it if what these leave of it is next to nothing: z_k − Σ_j w_j z_j, in standard
deviations. Rounding leaves its own standard deviation, that of a step divided by √12. In most rows: the least squares
of the half of the rows that fit best, found from a few exact fits (least trimmed squares).

Reference: Rousseeuw, Van Driessen, "Computing LTS regression for large data sets", 2006.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .columns import Column

__all__ = ["Linear", "linear_columns"]

#: Standard deviation of a column given the others, over its own, below which it is a function of them: 9 nats. The
#: least in scikit-learn's tables is 0.016. What was rounded away is allowed for, up to the second number.
DEPENDENT, ROUNDED = 1e-4, 1e-2
#: Of the coefficients in units of standard deviations, those that count.
COEFFICIENT = 1e-3
#: Interquartile ranges from the median beyond which a row does not say whether columns depend on each other.
FAR = 10.0
#: Share of the rows with one value from which a column is not said to be a function of others in most rows.
COMMON = 0.4
#: Columns up to which functions in most rows are looked for, rows that are looked at, rows for each column at least,
#: exact fits that are begun from, and steps from each.
MOST_COLUMNS, MOST_ROWS, ROWS_EACH, STARTS, STEPS = 16, 2000, 8, 20, 5


class Linear(NamedTuple):
    """A column, those that it is a linear function of, and in which share of the rows."""

    column: int
    of: list[int]
    share: float


def linear_columns(rows: np.ndarray, columns: Sequence[Column], eps: float) -> list[Linear]:
    """Those of the columns of `rows`, (rows, D), that are functions of columns before them.

    Arguments:
        columns: What is known of each.
        eps: Relative precision of the numbers.
    """
    spread = np.array([column.spread for column in columns])
    median = np.array([column.median for column in columns])
    near = (np.abs(rows - median) <= np.where(spread > 0, FAR * spread, np.inf)).all(1)
    x = rows[near] if 2 * near.sum() >= len(rows) else rows
    if len(x) < len(columns) + 2:
        return []
    mean, std = x.mean(0), x.std(0)
    scale = np.where(std > 0, std, 1.0)
    steps = np.array([column.step for column in columns]) / 12**0.5
    rounding = np.maximum(eps * np.abs(x).max(0), steps) / scale
    z = (x - mean) / scale
    r = np.linalg.qr(z, mode="r") / len(x) ** 0.5
    all_rows = (rows - mean) / scale
    # Half of the rows may agree in a value that is common, which is another kind of trouble.
    varied = [not column.is_discrete and column.often < COMMON * len(rows) for column in columns]
    kept: list[int] = []
    found = []
    for k in range(len(columns)):
        if std[k] == 0:
            continue
        others = kept[:]
        fit = _in_all(r, k, others, rounding)
        if fit is None and len(columns) <= MOST_COLUMNS and varied[k]:
            others = [j for j in kept if varied[j]]
            fit = _in_most(z, k, others, rounding)
        if fit is None:
            kept.append(k)
            continue
        weights, constant, limit = fit
        rest = all_rows[:, k] - all_rows[:, others] @ weights - constant
        of = sorted(j for j, weight in zip(others, weights, strict=True) if abs(weight) > COEFFICIENT)
        found.append(Linear(k, of, float((np.abs(rest) <= 10 * limit).mean())))
    return found


def _limit(weights: np.ndarray, k: int, kept: list[int], rounding: np.ndarray) -> float:
    """The standard deviation that rounding leaves of column k, or the least that counts."""
    return min(max(DEPENDENT, float(rounding[k] + np.abs(weights) @ rounding[kept])), ROUNDED)


def _in_all(r: np.ndarray, k: int, kept: list[int], rounding: np.ndarray) -> tuple[np.ndarray, float, float] | None:
    """Weights, constant and limit of column k as a function of those kept, from the triangle R of all; or None."""
    if abs(r[k, k]) > ROUNDED:  # the rest, if columns that are no part of `kept` are taken away too
        return None
    weights = np.linalg.lstsq(r[:, kept], r[:, k], rcond=None)[0] if kept else np.zeros(0)
    limit = _limit(weights, k, kept, rounding)
    return (weights, 0.0, limit) if np.linalg.norm(r[:, k] - r[:, kept] @ weights) <= limit else None


def _in_most(z: np.ndarray, k: int, kept: list[int], rounding: np.ndarray) -> tuple[np.ndarray, float, float] | None:
    """As `_in_all`, in the half of the rows that fit best."""
    z = z[:: max(1, len(z) // MOST_ROWS)]
    half, terms = len(z) // 2, len(kept) + 1
    if not kept or half < ROWS_EACH * terms:
        return None
    a, y = np.column_stack([z[:, kept], np.ones(len(z))]), z[:, k]
    rng = np.random.default_rng(0)
    for _ in range(STARTS):
        best = rng.choice(len(z), terms, replace=False)
        for _ in range(STEPS):
            fit = np.linalg.lstsq(a[best], y[best], rcond=None)[0]
            best = np.argpartition(np.abs(y - a @ fit), half)[:half]
        rest, limit = (y - a @ fit)[best].std(), _limit(fit[:-1], k, kept, rounding)
        if rest < limit * y[best].std() and np.abs(fit[:-1]).max() > COEFFICIENT:
            return fit[:-1], float(fit[-1]), limit
    return None
