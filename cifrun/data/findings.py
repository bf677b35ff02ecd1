"""What is wrong with data that can be trained on: their density grows without limit, or can't be learned.

A number that many rows share has a probability, and no density: a flow that narrows around it gains without end, in the
test too. So has a row that stands in training and test data, or a column that others determine. Each kind of it is one
sentence for the user, with the columns, the share of the rows, and what to do. The rules are about what a flow can gain
from, not about what is exactly continuous: real measurements are rounded, and a rounding that is fine beside the number
of rows does no harm. At most `ROWS` rows are looked at; the moments alone are those of all training data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .base import Data
from .pieces import total, values
from .row_numbers import counting

__all__ = ["Finding", "findings"]

#: Rows of a split that are looked at, or fewer, so that they hold at most so many numbers (64 MiB in float64).
ROWS, NUMBERS = 100_000, 2**23

#: Rows a distinct value, on average, from which a column counts as discrete: a spike costs a flow some parameters and
#: gains it log(step / width) for each row. Columns of scikit-learn's tables have up to 8 (blood sugar, 442 rows).
PER_VALUE = 10
#: Rows below which a column is judged by its commonest value: if half hold it, or a tenth, and so many times what the
#: next has. Small tables are rounded measurements as a rule (in the table diabetes 29 % share a ratio, 24 % another).
SMALL, HALF, TENTH, TIMES = 500, 0.5, 0.1, 5
#: Share of the rows at values that `PER_VALUE` rows or more hold, and share of those whose value is not theirs alone,
#: from which values repeat. In the table breast_cancer these are 2 % and 49 %; float32 itself makes 1 % of 100 000
#: uniform numbers meet another.
AT_SPIKES, REPEATED = 0.05, 2 / 3
#: Share of the training rows that are there twice or more, and how many at least. One pair of iris' rows is equal.
COPIES, COPIED_ROWS = 0.05, 10
#: A row is a copy if independent columns would bring forth this share of its copies, or fewer.
BY_CHANCE = 0.1
#: Share of validation or test rows that training rows equal, beyond what training rows equal among themselves, and how
#: many rows at least.
SHARED, SHARED_ROWS = 0.01, 5
#: Standard deviation of a column given the others, over its own, below which it is a function of them: 9 nats. The
#: least in scikit-learn's tables is 0.016. What float32 rounds away is allowed for, up to the second number.
DEPENDENT, ROUNDED = 1e-4, 1e-2
#: Of the coefficients in units of standard deviations, those that count.
COEFFICIENT = 1e-3
#: Standard deviation over interquartile range from which the middle of a column is a spike in the model's units. A
#: normal distribution has 0.74, a log-normal one with σ = 2 has 15, the most in scikit-learn's tables is 1.7.
TAIL = 50.0
#: Interquartile ranges from the median beyond which a row does not say whether columns depend on each other.
FAR = 10.0
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
    """What is wrong with data that are points of real numbers, one finding a kind; none for images."""
    x = data.train
    if len(data.shape) != 1 or not x.is_floating_point() or data.levels is not None or len(x) < 2:
        return []
    rows = _sample(x)
    of = f"the {len(rows):,} training rows{' looked at' if len(rows) < len(x) else ''}"
    coarse = _coarse(data, rows)
    columns = [Column(column) for column in rows.T]
    few = [k for k, column in enumerate(columns) if k not in coarse and column.is_discrete]
    repeated = [k for k, column in enumerate(columns) if k not in coarse and k not in few and column.repeats]
    copies, different = _copies(data, rows, columns, of)
    if copies is not None:  # they explain that values repeat, unless these are few among different rows too
        few = [k for k in few if columns[k].distinct < REPEATED * different]
    found = [_coarse_columns(data, coarse), _counting(data, rows), _few_values(data, columns, few, of)]
    if len(few) + len(coarse) < len(columns):  # else rows are equal by chance
        found += [copies, _shared(data, rows)]
        if copies is None:
            found.append(_repeated_values(data, columns, repeated, of))
    found += [_tails(data, columns), _dependent(data, rows, columns)]
    return [finding for finding in found if finding is not None]


class Column:
    """One column of the rows that are looked at, (rows,), in float64.

    Attributes:
        counts, distinct: For each row, how many have its value; the number of distinct values.
        most, often, next: The commonest value, how many rows have it, and how many the next commonest.
        median, spread: Median and interquartile range.
    """

    def __init__(self, x: np.ndarray) -> None:
        unique, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
        self.distinct = len(unique)
        self.counts = counts[inverse]
        self.most = float(unique[counts.argmax()])
        self.next, self.often = sorted([0, *counts.tolist()])[-2:]
        low, self.median, high = np.percentile(x, (25, 50, 75))
        self.spread = float(high - low)

    @property
    def is_discrete(self) -> bool:
        """Whether each value has many rows, on average."""
        return self.distinct * PER_VALUE <= len(self.counts)

    @property
    def repeats(self) -> bool:
        """Whether some values have more rows than they should."""
        n = len(self.counts)
        if n < SMALL:
            return self.often >= HALF * n or self.often >= max(TENTH * n, TIMES * self.next)
        return (self.counts >= PER_VALUE).mean() >= AT_SPIKES or (self.counts > 1).mean() >= REPEATED


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
    which = counting([rows, _sample(data.valid), _sample(data.test)], len(rows) == len(data.train))
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


def _copies(data: Data, rows: np.ndarray, columns: Sequence[Column], of: str) -> tuple[Finding | None, int]:
    """Rows that are there more than once, and not because their values are few; and the number of different rows."""
    count = len(rows)
    unique, inverse, counts = np.unique(_keys(rows), return_inverse=True, return_counts=True)
    if len(columns) == 1:
        return None, len(unique)
    times = counts[inverse]
    by_chance = np.log(count) + sum(np.log(column.counts / count) for column in columns)
    copied = (times > 1) & (by_chance <= np.log(BY_CHANCE * times))
    share = float(copied.mean())
    if share < COPIES or copied.sum() < COPIED_ROWS:
        return None, len(unique)
    held = np.isin(_keys(_sample(data.test)), unique)
    most = "" if count == len(data.train) else "at least "  # what repeats evenly is no finding of `_shared`
    test = f", and {most}{_percent(held.mean())} of the test rows are among them" if held.any() else ""
    sentence = (
        f"rows that repeat: {_percent(share)} of {of} are there more than once, in all columns{test}; a density can "
        f"grow without limit at them: keep one of each{', before the table is split' if test else ''}"
    )
    return Finding("repeated rows", (), (share,), sentence), len(unique)


def _shared(data: Data, rows: np.ndarray) -> Finding | None:
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
        notes.append(f"{'about ' if scale > 1 else ''}{_percent(share)} of the {split} rows")
    if not shares:
        return None
    return Finding(
        "shared rows",
        (),
        tuple(shares),
        f"rows shared between splits: {' and '.join(notes)} are training rows too, in all columns, so that "
        f"log-likelihoods there say nothing of new data: remove copies before the table is split",
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


def _dependent(data: Data, rows: np.ndarray, columns: Sequence[Column]) -> Finding | None:
    """Columns that are a linear function of those before them, with these."""
    spread = np.array([column.spread for column in columns])
    median = np.array([column.median for column in columns])
    near = (np.abs(rows - median) <= np.where(spread > 0, FAR * spread, np.inf)).all(1)
    x = rows[near] if 2 * near.sum() >= len(rows) else rows
    if len(x) < len(columns) + 2:
        return None
    std = x.std(0)
    rounding = torch.finfo(data.train.dtype).eps * np.abs(x).max(0)
    z = (x - x.mean(0)) / np.where(std > 0, std, 1.0)
    r = np.linalg.qr(z, mode="r") / len(x) ** 0.5
    kept: list[int] = []
    notes, which, shares = [], [], []
    for k in range(len(columns)):
        if std[k] == 0:
            continue
        if abs(r[k, k]) > ROUNDED:  # the rest, if columns that are no part of `kept` are taken away too
            kept.append(k)
            continue
        weights = np.linalg.lstsq(r[:, kept], r[:, k], rcond=None)[0] if kept else np.zeros(0)
        rest = float(np.linalg.norm(r[:, k] - r[:, kept] @ weights))
        # Of each column, what it was rounded by.
        lost = float(rounding[k] / std[k] + np.abs(weights) @ (rounding[kept] / std[kept]))
        limit = min(max(DEPENDENT, lost), ROUNDED)
        if rest > limit:
            kept.append(k)
            continue
        scaled = (rows[:, [*kept, k]] - x.mean(0)[[*kept, k]]) / std[[*kept, k]]
        shares.append(float((np.abs(scaled[:, -1] - scaled[:, :-1] @ weights) <= 10 * limit).mean()))
        of = [kept[j] for j in np.argsort(-np.abs(weights), kind="stable") if abs(weights[j]) > COEFFICIENT]
        which.append(k)
        notes.append(f"{_percent(shares[-1])} of the rows, of {_listed(data, sorted(of))}")
    if not which:
        return None
    return Finding(
        "dependent",
        tuple(which),
        tuple(shares),
        f"linear functions of other columns: {_listed(data, which, notes)}; no density holds them all, and one that "
        f"tries grows without limit: leave them out (dataset.columns=[…])",
    )


# --- rows and words ---------------------------------------------------------------------------------------------------


def _sample(x: Tensor) -> np.ndarray:
    """At most `ROWS` of the rows, in their order, float64."""
    most = min(ROWS, max(1, NUMBERS // x.shape[1]))
    if len(x) > most:
        draws = torch.randint(len(x), (most,), generator=torch.Generator().manual_seed(0))
        x = x[draws.unique()]
    return x[:].double().numpy()


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
