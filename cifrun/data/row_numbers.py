"""Columns that count the rows of their table: a number, or a time, that goes on by one step from row to row; or whole
numbers in any order, each of which is there once and none between them is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["counting"]

#: Rows of the training data below which nothing is said: few numbers are in order by chance, or for a reason.
LEAST = 20
#: Steps that are the same differ by this share of them at most, beside what single precision rounds away.
SAME = 1e-3
#: Whole numbers count rows also where some rows were left out: at most half of those in between.
GAPS = 2
#: Rows that are looked at, squared, over all rows, from which no column has different numbers in so short a range by
#: chance.
SURE = 40


def counting(splits: Sequence[np.ndarray], total: int) -> list[int]:
    """The columns that count rows.

    A split takes rows of a table in their order, so that such a column grows, or falls, in every split, and all splits
    together have each of its values once. A table that was shuffled has them in any order; of other columns only a
    ranking looks like that, of which no density can be learned either.

    Arguments:
        splits: Training, validation and test rows, each (rows, columns), in the order of the table.
        total: How many rows there are, of which these may be a sample.
    """
    whole = sum(map(len, splits)) == total
    if len(splits[0]) < LEAST:
        return []
    found = []
    for k in range(splits[0].shape[1]):
        parts = [split[:, k] for split in splits]
        steps = np.concatenate([np.diff(part) for part in parts])
        if not ((steps > 0).all() or (steps < 0).all()):
            if _fill(np.concatenate(parts), total):
                found.append(k)
            continue
        values = np.sort(np.concatenate(parts))
        gaps = np.diff(values)
        rounding = 4 * np.finfo(np.float32).eps * np.abs(values).max()
        even = gaps.max() - gaps.min() <= SAME * gaps.mean() + rounding and gaps.min() > rounding
        numbers = bool((values == np.floor(values)).all() and gaps.min() > 0)
        near = not whole or values[-1] - values[0] <= GAPS * len(values)
        if (whole and even) or (numbers and near):
            found.append(k)
    return found


def _fill(values: np.ndarray, total: int) -> bool:
    """Whether these are different whole numbers that all rows together fill a range with, in equal steps."""
    if len(values) ** 2 < SURE * total or not (values == np.floor(values)).all():
        return False
    gaps = np.diff(np.sort(values))
    if len(values) == total:
        return bool(gaps.min() > 0 and gaps.max() == gaps.min())
    return bool(gaps.min() > 0 and gaps.sum() < total)
