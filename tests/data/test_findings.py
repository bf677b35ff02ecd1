"""Trouble with data that can be trained on: each kind is told once, with column and share; sound data say nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import datasets as tables

from cifrun.data import findings as module
from cifrun.data.base import Data, Target
from cifrun.data.findings import Finding, findings
from cifrun.registry import DATASETS

TARGETS = sorted(name for name in DATASETS if issubclass(DATASETS[name], Target))
BUNDLED = ("breast_cancer", "diabetes", "iris", "wine")


def normal(rows: int = 1000, columns: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns))


def data_of(x: np.ndarray, share: float = 0.1, **more: Any) -> Data:
    """x in single precision, of which the last rows are the validation and the test data."""
    rows, held = torch.from_numpy(np.asarray(x)).float(), round(share * len(x))
    train, valid, test = rows.split([len(rows) - 2 * held, held, held])
    return Data(train, valid, test, **more)


def only(data: Data) -> Finding:
    """The one finding there is."""
    (found,) = findings(data)
    return found


# --- each kind --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "distinct"),
    [
        (np.random.default_rng(1).integers(0, 8, 1000), 8),
        (np.random.default_rng(1).integers(0, 2, 1000) * 1e-9, 2),
        (np.round(np.random.default_rng(1).uniform(0, 5, 1000), 1) + 100, 51),
    ],
    ids=["integers", "two", "rounded"],
)
def test_few_distinct_values(column: np.ndarray, distinct: int) -> None:
    found = only(data_of(np.column_stack([normal(), column]), columns=("a", "b", "kind")))
    assert (found.kind, found.columns, found.shares) == ("few values", (2,), (distinct / 800,))
    assert f"few distinct values in the 800 training rows: column 'kind' ({distinct}, " in found.sentence
    assert "column 'a'" not in found.sentence and "add uniform noise" in found.sentence


@pytest.mark.parametrize("most", [2, 10, 50])
@pytest.mark.parametrize("related", [False, True])
def test_a_table_of_integers_is_one_finding(most: int, related: bool) -> None:
    """That rows repeat, and are in several splits, follows from it."""
    x = np.random.default_rng(0).integers(0, most, size=(2000, 2))
    if related:
        x[:, 1] = x[:, 0] + (x[:, 1] >= most // 2)
    found = only(data_of(x))
    assert found.kind == "few values" and found.columns == (0, 1)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
def test_values_that_repeat(share: float) -> None:
    """A value that stands for something, such as 0 for none; in a column of its own it makes no row a copy."""
    x = normal(2000, 3)
    x[np.random.default_rng(1).random(2000) < share, 1] = 0
    x[np.random.default_rng(2).random(2000) < share, 2] = 7
    found = only(data_of(x, columns=("a", "b", "c")))
    assert found.kind == "repeated values" and found.columns == (1, 2)
    assert found.shares == pytest.approx([share, share], abs=0.04)
    assert "column 'b' (" in found.sentence and ", 0 alone " in found.sentence and ", 7 alone " in found.sentence


def test_values_that_come_in_pairs_repeat() -> None:
    x = normal(1000, 3)
    x[400:800, 2] = x[:400, 2]
    found = only(data_of(x))
    assert (found.kind, found.columns, found.shares) == ("repeated values", (2,), (1.0,))


def test_half_of_a_small_table_may_not_have_one_value() -> None:
    x = normal(120, 2)
    x[:60, 0] = 1
    assert only(data_of(x)).kind == "repeated values"


@pytest.mark.parametrize("share", [0.1, 0.3, 0.4])
def test_one_value_alone_may_not_be_common_in_a_small_table(share: float) -> None:
    x = normal(300, 2)
    x[np.arange(300) % 10 < 10 * share, 0] = 1
    found = only(data_of(x))
    assert (found.kind, found.columns) == ("repeated values", (0,))
    assert f"1 alone {100 * share:.0f} %" in found.sentence


def test_a_rounded_measurement_of_a_small_table_is_no_finding() -> None:
    """Its commonest value is held by a fifth of the rows, and has neighbours."""
    x = normal(440, 2)
    x[:, 0] = np.where(np.abs(x[:, 0]) < 1, x[:, 0].round(), x[:, 0])
    assert findings(data_of(x)) == []


@pytest.mark.parametrize("times", [2, 5, 30])
def test_rows_that_repeat(times: int) -> None:
    """They are one finding, and not one of each column."""
    train = torch.from_numpy(np.tile(normal(600 // times, 3), (times, 1))).float()
    held = torch.from_numpy(normal(60, 3, seed=1)).float()
    found = only(Data(train, held, held))
    assert (found.kind, found.columns, found.shares) == ("repeated rows", (), (1.0,))
    assert "100 % of the 600 training rows are there more than once" in found.sentence
    assert "test rows" not in found.sentence


@pytest.mark.parametrize("rows", [100_000, 600])
def test_rows_that_repeat_in_all_splits(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many test rows are training rows as training rows are there more than once."""
    monkeypatch.setattr(module, "ROWS", rows)
    x = np.random.default_rng(0).permutation(np.tile(normal(500, 3), (2, 1)))
    data = data_of(x)
    found = only(data)
    train = {tuple(row) for row in data.train.tolist()}
    share = sum(tuple(row) in train for row in data.test.tolist())  # of 100
    assert found.kind == "repeated rows" and "before the table is split" in found.sentence
    if rows > len(x):
        assert 70 < share < 90 and f", and {share} % of the test rows are among them;" in found.sentence
    else:
        assert ", and at least " in found.sentence


@pytest.mark.parametrize("columns", [1, 3])
def test_rows_shared_between_splits(columns: int) -> None:
    data = data_of(normal(1000, columns))
    leaky = Data(data.train, data.valid, torch.cat([data.test[:60], data.train[5:45]]))
    found = only(leaky)
    assert (found.kind, found.columns, found.shares) == ("shared rows", (), (0.4,))
    assert "40 % of the test rows are training rows too" in found.sentence and "validation" not in found.sentence
    both = only(Data(data.train, data.train[:50], data.train[50:100]))
    assert both.shares == (1.0, 1.0) and "100 % of the validation rows and 100 % of the test rows" in both.sentence


def test_one_row_of_a_small_table_may_be_in_two_splits() -> None:
    """As it is with the table iris."""
    data = data_of(normal(150))
    assert findings(Data(data.train, data.valid, torch.cat([data.test[1:], data.train[:1]]))) == []


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_a_column_that_is_a_linear_function_of_others(scale: float, shift: float) -> None:
    x = normal(1000, 4) * [1, 1e4, 1e-3, 1]
    total = scale * (2 * x[:, 0] - 0.5 * x[:, 3] + shift)
    found = only(data_of(np.column_stack([x, total]), columns=("a", "b", "c", "d", "sum")))
    assert (found.kind, found.columns, found.shares) == ("dependent", (4,), (1.0,))
    assert "column 'sum' (100 % of the rows, of column 'a', column 'd')" in found.sentence


def test_shares_of_a_whole_depend_on_each_other() -> None:
    x = np.random.default_rng(0).gamma(1, size=(1000, 5))
    found = only(data_of(x / x.sum(1, keepdims=True)))
    assert found.kind == "dependent" and found.columns == (4,)


def test_columns_that_nearly_depend_on_each_other_do_not() -> None:
    x = normal(1000, 3)
    x[:, 2] = x[:, 0] + x[:, 1] + 1e-3 * x[:, 2]
    assert findings(data_of(x)) == []


@pytest.mark.parametrize("columns", [[0], [0, 1]])
def test_a_few_rows_far_out(columns: list[int]) -> None:
    """Where the same rows are far out in all columns, these are not functions of each other."""
    x = normal()
    x[np.ix_([3, 9], columns)] = 1e6
    found = only(data_of(x, columns=("a", "b")))
    assert (found.kind, found.columns) == ("tails", tuple(columns))
    assert found.shares == (2 / 800,) * len(columns) and "0.25 % of the rows farther out" in found.sentence


def test_values_that_single_precision_has_merged() -> None:
    x = normal(1000, 2)
    x[:, 1] = 5e6 + 10 * x[:, 1]
    found = only(data_of(x, columns=("a", "time")))
    assert (found.kind, found.columns) == ("coarse", (1,)) and "column 'time' (around 5e+06" in found.sentence


def test_whole_numbers_that_single_precision_has_exactly_are_not_coarse() -> None:
    x = normal(1000, 2)
    x[:, 1] = np.round(1e6 + 40 * x[:, 1])
    assert only(data_of(x)).kind == "repeated values"
    assert findings(data_of(x[:300])) == []


def test_columns_beyond_some_are_counted() -> None:
    found = only(data_of(np.random.default_rng(0).integers(0, 5, size=(1000, 9))))
    assert len(found.columns) == 9 and found.sentence.count("column ") == 6 and " and 3 more" in found.sentence


@pytest.mark.parametrize("rows", [110, 400])
def test_few_names_are_few_values_in_a_small_table_too(rows: int) -> None:
    x = np.column_stack([normal(rows, 1), np.random.default_rng(1).integers(1, 13, rows)])
    found = only(data_of(x, columns=("a", "month")))
    assert (found.kind, found.columns) == ("few values", (1,)) and "column 'month' (12, " in found.sentence


def test_two_values_may_not_be_common_in_a_small_table() -> None:
    x, rng = normal(400, 2), np.random.default_rng(1)
    x[:, 1] = np.where(rng.random(400) < 0.16, rng.integers(0, 2, 400), x[:, 1])
    found = only(data_of(x))
    assert (found.kind, found.columns) == ("repeated values", (1,))


def rounded(x: np.ndarray, decimals: int = 2) -> np.ndarray:
    return np.round(x, decimals)


def shares_of_a_whole(seed: int = 0) -> np.ndarray:
    return 100 * np.random.default_rng(seed).dirichlet([3, 3, 3], 1000)


@pytest.mark.parametrize(
    ("x", "column"),
    [
        (rounded(np.c_[shares_of_a_whole()[:, :2], 100 - rounded(shares_of_a_whole()[:, :2]).sum(1)]), 2),
        (rounded(shares_of_a_whole()), 2),
        (rounded(np.c_[np.exp(normal(1000, 3)) * 10, 10 * np.exp(normal(1000, 3)).sum(1)]), 3),
        (rounded((20 + 10 * normal(1000, 1)) * [1, 1.8] + [0, 32]), 1),
    ],
    ids=["percent", "rounded apart", "total", "Celsius and Fahrenheit"],
)
def test_rounding_hides_no_linear_function(x: np.ndarray, column: int) -> None:
    """And that rows are equal where one column is does not make them copies."""
    found = only(data_of(x))
    assert (found.kind, found.columns, found.shares) == ("dependent", (column,), (1.0,))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("columns", [2, 8])
def test_a_linear_function_in_most_rows(columns: int, seed: int) -> None:
    x = normal(1000, columns, seed)
    total = np.where(
        np.random.default_rng(seed + 9).random(1000) < 0.1, normal(1000, 1, seed + 5)[:, 0], 2 * x[:, 0] - 3
    )
    found = only(data_of(np.column_stack([x, total])))
    assert (found.kind, found.columns) == ("dependent", (columns,))
    assert found.shares[0] == pytest.approx(0.9, abs=0.04) and " of the rows, of column 1 of " in found.sentence


def test_rows_of_few_integers_are_equal_by_chance() -> None:
    for seed in range(5):
        x = np.random.default_rng(seed).integers(0, 41, size=(300, 2))
        assert "repeated rows" not in [found.kind for found in findings(data_of(x))]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_shared_between_splits(channels: int) -> None:
    x = torch.randint(0, 256, (500, channels, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = only(Data(x[:300], x[:100], torch.cat([x[300:480], x[:20]]), levels=256))
    assert found.kind == "shared rows" and found.shares == (1.0, 0.1)
    assert "100 % of the validation images and 10 % of the test images are training images too" in found.sentence
    assert findings(Data(x[:300], x[300:400], x[400:], levels=256)) == []


# --- what is fine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", TARGETS)
def test_targets_in_the_plane_are_fine(name: str, seed: int) -> None:
    for sizes in ({}, {"num_train": 400, "num_valid": 40, "num_test": 40}):
        assert findings(DATASETS[name](name=name, seed=seed, **sizes).load()) == []


@pytest.mark.parametrize("name", BUNDLED)
def test_tables_of_scikit_learn_are_fine(name: str) -> None:
    for seed in range(3):
        assert findings(DATASETS[name](name=name, seed=seed).load()) == []
    whole = getattr(tables, f"load_{name}")()
    x = whole.data[:, [k for k, column in enumerate(whole.feature_names) if column != "sex"]]
    assert findings(data_of(x, share=0)) == []


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(20, 3000),
    columns=st.integers(1, 6),
    kind=st.sampled_from(["normal", "uniform", "exponential", "laplace", "logistic"]),
    log_scale=st.floats(-12, 12),
    shift=st.floats(-300, 300),
)
def test_continuous_data_of_any_scale_and_place_are_fine(
    seed: int, rows: int, columns: int, kind: str, log_scale: float, shift: float
) -> None:
    """Mixed by a random matrix; 4,000 draws of this had no false alarm."""
    rng = np.random.default_rng(seed)
    x = getattr(rng, kind)(size=(rows, columns)) @ rng.normal(size=(columns, columns))
    x = 10**log_scale * (x / x.std(0) + shift)
    assert findings(data_of(x)) == []


def test_the_digits_of_scikit_learn_are_fine() -> None:
    assert findings(DATASETS["digits"](name="digits").load()) == []


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool])
def test_images_are_fine(dtype: torch.dtype) -> None:
    x = torch.zeros(20, 1, 4, 4, dtype=dtype)
    assert findings(Data(x, x, x, levels=2)) == []
    assert findings(Data(torch.rand(20, 1, 4, 4).round(), torch.rand(5, 1, 4, 4), torch.rand(5, 1, 4, 4))) == []


def test_nothing_is_said_of_a_model_without_data() -> None:
    assert findings(Data(*[torch.empty(0, 3)] * 3)) == []


# --- many rows --------------------------------------------------------------------------------------------------------


def test_of_many_rows_some_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of the rows that are shared is that of all."""
    monkeypatch.setattr(module, "ROWS", 1000)
    x = normal(20_000, 3)
    x[:, 2] = np.round(x[:, 2])
    data = data_of(x)
    few, shared = findings(Data(data.train, data.train[:1000], data.test))
    assert few.kind == "few values" and "training rows looked at" in few.sentence
    assert shared.kind == "shared rows" and shared.shares == pytest.approx([1], abs=0.3)
    assert "about " in shared.sentence and "validation" in shared.sentence and "test" not in shared.sentence
    assert findings(data_of(normal(20_000, 3))) == []


def test_a_sample_is_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 1000)
    data = data_of(np.round(normal(5000), 1))
    assert findings(data) == findings(data) != []


def test_of_wide_data_without_dependent_columns_nothing_is_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each column, a least-squares problem in all before it would take the fourth power of their number."""
    solved: list[int] = []
    solve = np.linalg.lstsq
    monkeypatch.setattr(np.linalg, "lstsq", lambda *a, **k: solved.append(1) or solve(*a, **k))
    x = normal(400, 150)
    assert findings(data_of(x)) == [] and solved == []
    x[:, 149] = x[:, 3] - 2 * x[:, 5]
    assert only(data_of(x)).columns == (149,) and len(solved) == 1
