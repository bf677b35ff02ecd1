"""What is wrong with data that can be trained on: their density grows without limit, or can't be learned.

A number that many rows share has a probability, and no density: a flow that narrows around it gains without end, in the
test too. So has a row that stands in training and test data, or a column that others determine. Each kind of it is one
sentence for the user, with the columns, the share of the rows, and what to do. The rules are about what a flow can gain
from, not about what is exactly continuous: real measurements are rounded, and a rounding that is fine beside the number
of rows does no harm. At most `ROWS` rows are looked at; the moments alone are those of all training data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .base import Data
from .columns import AT_SPIKES, REPEATED, Column
from .dependence import Linear, linear_columns
from .pieces import total, values
from .row_numbers import counting

__all__ = ["Finding", "findings"]

#: Rows of a split that are looked at, or fewer, so that they hold at most so many numbers (64 MiB in float64).
ROWS, NUMBERS = 100_000, 2**23

#: Share of the training rows that are there twice or more, and how many at least. One pair of iris' rows is equal.
COPIES, COPIED_ROWS = 0.05, 10
#: A row is a copy if independent columns would bring forth this share of its copies, or fewer.
BY_CHANCE = 0.1
#: Share of validation or test rows that training rows equal, beyond what training rows equal among themselves, and how
#: many rows at least.
SHARED, SHARED_ROWS = 0.01, 5
#: Standard deviation over interquartile range from which the middle of a column is a spike in the model's units. A
#: normal distribution has 0.74, a log-normal one with σ = 2 has 15, the most in scikit-learn's tables is 1.7.
TAIL = 50.0
#: Steps of single precision at a column's mean in its standard deviation, below which it is coarse if it was rounded to
#: them: then every second value is an odd number of steps. Of whole numbers around 10⁶, none is.
STEPS, ODD = 1000, 0.1
#: Columns that a sentence names.
NAMED = 6


@dataclass(frozen=True)
class Finding:
    """One kind of trouble with some data.

    Attributes:
        kind: row numbers, few values, repeated values, repeated rows, shared rows, dependent, tails or coarse.
        columns: Numbers of the columns that have it; none where it is one of whole rows.
        shares: For each column, or for the rows, the share of rows that have it.
        sentence: For the user: what it is, where, and what to do.
    """

    kind: str
    columns: tuple[int, ...]
    shares: tuple[float, ...]
    sentence: str


def findings(data: Data) -> list[Finding]:
    """What is wrong with data, one finding a kind; of images, only that splits share some."""
    x = data.train
    if len(x) < 2:
        return []
    if data.levels is not None and len(data.shape) == 3:
        return [finding for finding in (_shared(data, _sample(x), "images"),) if finding is not None]
    if len(data.shape) != 1 or not x.is_floating_point() or data.levels is not None:
        return []
    rows, eps = _sample(x), torch.finfo(x.dtype).eps
    of = f"the {len(rows):,} training rows{' looked at' if len(rows) < len(x) else ''}"
    coarse = _coarse(data, rows)
    columns = [Column(column, eps) for column in rows.T]
    linear = linear_columns(rows, columns, eps)
    few = [k for k, column in enumerate(columns) if k not in coarse and column.is_discrete]
    repeated = [k for k, column in enumerate(columns) if k not in coarse and k not in few and column.repeats]
    # Where columns follow from the others, rows are equal as soon as these are.
    free = sorted(set(range(len(columns))) - {one.column for one in linear})
    copies, different = _copies(data, rows, columns, free, of)
    if copies is not None:  # they explain that values repeat, unless these are few among different rows too
        few = [k for k in few if columns[k].distinct < REPEATED * different]
    found = [_coarse_columns(data, coarse), _counting(data, rows), _few_values(data, columns, few, of)]
    if len(few) + len(coarse) < len(columns):  # else rows are equal by chance
        found += [copies, _shared(data, rows)]
        if copies is None:
            found.append(_repeated_values(data, columns, repeated, of))
    found += [_tails(data, columns), _dependent(data, linear)]
    return [finding for finding in found if finding is not None]


# --- the kinds --------------------------------------------------------------------------------------------------------


def _coarse(data: Data, rows: np.ndarray) -> list[int]:
    if data.train.dtype != torch.float32:
        return []
    mean, std = data.moments
    odd = (rows.astype(np.float32).view(np.int32) & 1).mean(0)
    few = (std < STEPS * torch.finfo(torch.float32).eps * mean.abs()).numpy()
    return np.flatnonzero(few & (odd >= ODD)).tolist()


def _coarse_columns(data: Data, which: Sequence[int]) -> Finding | None:
    if not which:
        return None
    eps = torch.finfo(data.train.dtype).eps
    mean, std = (m.tolist() for m in data.moments)
    shares = [eps * abs(mean[k]) / std[k] for k in which]
    notes = [f"around {mean[k]:.6g} in steps of {_percent(s)}" for k, s in zip(which, shares, strict=True)]
    return Finding(
        "coarse",
        tuple(which),
        tuple(shares),
        f"values that single precision can't tell apart: {_listed(data, which, notes)} of the standard deviation; "
        f"subtract a constant near the mean, in double precision",
    )


def _counting(data: Data, rows: np.ndarray) -> Finding | None:
    splits, total = [rows, valid := _sample(data.valid)], len(data.train) + len(data.valid)
    if not np.array_equal(test := _sample(data.test), valid):  # which is in place of a test set where there is none
        splits, total = [*splits, test], total + len(data.test)
    which = counting(splits, total)
    sentence = (
        f"columns that count rows: {_listed(data, which)}; they say where a row stands in the file, and a model learns "
        f"no more of them: leave them out (dataset.columns=[…])"
    )
    return Finding("row numbers", tuple(which), (1.0,) * len(which), sentence) if which else None


def _few_values(data: Data, columns: Sequence[Column], which: Sequence[int], of: str) -> Finding | None:
    if not which:
        return None
    count = len(columns[0].counts)
    shares = [columns[k].distinct / count for k in which]
    notes = [f"{columns[k].distinct:,}, {_percent(share)}" for k, share in zip(which, shares, strict=True)]
    return Finding(
        "few values",
        tuple(which),
        tuple(shares),
        f"few distinct values in {of}: {_listed(data, which, notes)}; their density can grow without limit, so that "
        f"log-likelihoods mean little: add uniform noise as wide as the step between values, or leave out such columns "
        f"(dataset.columns=[…])",
    )


def _repeated_values(data: Data, columns: Sequence[Column], which: Sequence[int], of: str) -> Finding | None:
    if not which:
        return None
    shares = [float((columns[k].counts > 1).mean()) for k in which]
    notes = []
    for k, share in zip(which, shares, strict=True):
        top = columns[k].often / len(columns[k].counts)
        most = f", {columns[k].most:.6g} alone {_percent(top)}" if top >= AT_SPIKES else ""
        notes.append(f"{_percent(share)}{most}")
    return Finding(
        "repeated values",
        tuple(which),
        tuple(shares),
        f"values that repeat in {of}: {_listed(data, which, notes)}; a density can grow without limit at them, so that "
        f"log-likelihoods mean little: add uniform noise as wide as the rounding, or leave out such columns "
        f"(dataset.columns=[…]), or the rows with a value that stands for something else",
    )


def _copies(
    data: Data, rows: np.ndarray, columns: Sequence[Column], free: Sequence[int], of: str
) -> tuple[Finding | None, int]:
    """Rows that are there more than once, and not because their values are few; and the number of different rows.

    Arguments:
        free: The columns that do not follow from others.
    """
    count = len(rows)
    unique, inverse, counts = np.unique(_keys(rows), return_inverse=True, return_counts=True)
    if len(free) == 1:
        return None, len(unique)
    times = counts[inverse]
    by_chance = np.log(count) + sum(np.log(columns[k].counts / count) for k in free)
    copied = (times > 1) & (by_chance <= np.log(BY_CHANCE * times))
    share, chance = float(copied.mean()), float(-np.expm1(-np.exp(by_chance)).mean())
    if share < max(COPIES, 2 * chance) or copied.sum() < COPIED_ROWS:
        return None, len(unique)
    held = np.isin(_keys(_sample(data.test)), unique)
    most = "" if count == len(data.train) else "at least "  # what repeats evenly is no finding of `_shared`
    test = f", and {most}{_percent(held.mean())} of the test rows are among them" if held.any() else ""
    sentence = (
        f"rows that repeat: {_percent(share)} of {of} are there more than once, in all columns{test}; a density can "
        f"grow without limit at them: keep one of each{', before the table is split' if test else ''}"
    )
    return Finding("repeated rows", (), (share,), sentence), len(unique)


def _shared(data: Data, rows: np.ndarray, called: str = "rows") -> Finding | None:
    """Rows of another split that training rows equal; those that they would equal anyway do not count."""
    keys = _keys(rows)
    unique, counts = np.unique(keys, return_counts=True)
    among = float(counts[counts > 1].sum()) / len(keys)
    scale = len(data.train) / len(rows)  # of a sample, only some of the rows that are shared are found
    notes, shares = [], []
    for split, x in (("validation", data.valid), ("test", data.test)):
        others = _sample(x)
        hits = float(np.isin(_keys(others), unique).sum())
        excess = hits - among * len(others)
        noise = 4 * (among * len(others)) ** 0.5
        if excess < SHARED_ROWS + noise or excess * scale < SHARED * len(others) or hits < 2 * among * len(others):
            continue
        share = min(1.0, hits * scale / len(others))
        shares.append(share)
        notes.append(f"{'about ' if scale > 1 else ''}{_percent(share)} of the {split} {called}")
    if not shares:
        return None
    parts, table = ("columns", "table is") if called == "rows" else ("pixels", "data are")
    return Finding(
        "shared rows",
        (),
        tuple(shares),
        f"{called} shared between splits: {' and '.join(notes)} are training {called} too, in all {parts}, so that "
        f"log-likelihoods there say nothing of new data: remove copies before the {table} split",
    )


def _tails(data: Data, columns: Sequence[Column]) -> Finding | None:
    std = data.moments[1].tolist()
    which = [k for k, column in enumerate(columns) if column.spread > 0 and std[k] > TAIL * column.spread]
    if not which:
        return None
    medians = torch.tensor([columns[k].median for k in which], dtype=torch.float64)[:, None]
    reach = torch.tensor([std[k] for k in which], dtype=torch.float64)[:, None]
    beyond = total(((x[which].double() - medians).abs() > reach).sum(1) for x in values(data.train))
    shares = (beyond / len(data.train)).tolist()
    notes = [
        f"{std[k]:.3g} against {columns[k].spread:.3g}, {_percent(share)} of the rows farther out"
        for k, share in zip(which, shares, strict=True)
    ]
    return Finding(
        "tails",
        tuple(which),
        tuple(shares),
        f"standard deviation far beyond the interquartile range: {_listed(data, which, notes)}; the model sees all "
        f"other rows as one point, and learns nothing of them: remove or cut off such rows if they are mistakes, or "
        f"take the logarithm of the column",
    )


def _dependent(data: Data, linear: Sequence[Linear]) -> Finding | None:
    """Columns that are a linear function of those before them, with these."""
    if not linear:
        return None
    which = [one.column for one in linear]
    notes = [f"{_percent(one.share)} of the rows, of {_listed(data, one.of)}" for one in linear]
    return Finding(
        "dependent",
        tuple(which),
        tuple(one.share for one in linear),
        f"linear functions of other columns: {_listed(data, which, notes)}; no density holds them all, and one that "
        f"tries grows without limit: leave them out (dataset.columns=[…])",
    )


# --- rows and words ---------------------------------------------------------------------------------------------------


def _sample(x: Tensor) -> np.ndarray:
    """At most `ROWS` of the rows, in their order, flattened, float64."""
    most = min(ROWS, max(1, NUMBERS // math.prod(x.shape[1:])))
    if len(x) > most:
        draws = torch.randint(len(x), (most,), generator=torch.Generator().manual_seed(0))
        x = x[draws.unique()]
    return x[:].flatten(1).double().numpy()


def _keys(rows: np.ndarray) -> np.ndarray:
    """A number for each row, the same for equal rows, and for others with a probability of 2⁻⁶⁴; int64."""
    rows = np.ascontiguousarray(rows + 0.0)  # where −0 is 0
    return np.fromiter((hash(row.tobytes()) for row in rows), np.int64, len(rows))


def _listed(data: Data, which: Sequence[int], notes: Iterable[str] | None = None) -> str:
    """The columns by name, with a note for each, and how many more there are."""
    names = [data.column(k) for k in which]
    told = names if notes is None else [f"{name} ({note})" for name, note in zip(names, notes, strict=True)]
    more = f" and {len(told) - NAMED} more" if len(told) > NAMED else ""
    return ", ".join(told[:NAMED]) + more


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
