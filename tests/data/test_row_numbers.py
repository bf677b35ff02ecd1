"""Columns that count rows are told from columns that happen to be in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cifrun
from cifrun.cli.main import main
from cifrun.data.findings import findings
from cifrun.data.row_numbers import counting
from cifrun.errors import DataWarning
from tests.data.tables.helpers import load


def splits(column: np.ndarray, seed: int = 0) -> list[np.ndarray]:
    """Rows of a table, each to its split by chance, in their order."""
    codes = np.random.default_rng(seed).choice(3, len(column), p=[0.8, 0.1, 0.1])
    return [column[codes == code][:, None].astype(np.float32) for code in range(3)]


DRAW = np.random.default_rng(3)


@pytest.mark.parametrize(
    ("column", "counts"),
    [
        (np.arange(300), True),
        (np.arange(1, 301), True),
        (np.arange(300)[::-1] + 5, True),
        (np.arange(300) * 0.01 + 7, True),
        (np.delete(np.arange(400), DRAW.choice(400, 50, replace=False)), True),
        (np.sort(DRAW.normal(size=300)), False),
        (np.sort(DRAW.integers(0, 10**6, 300)), False),
        (np.sort(DRAW.integers(0, 300, 300)), False),
        (DRAW.permutation(300), True),
        (DRAW.permutation(300) * 5 + 1000, True),
        (-DRAW.permutation(300), True),
        (DRAW.permutation(300) / 300, False),
        (DRAW.choice(600, 300, replace=False), False),
        (DRAW.integers(0, 300, 300), False),
        (np.full(300, 2.0), False),
    ],
)
def test_a_column_counts_rows(column: np.ndarray, counts: bool) -> None:
    assert counting(splits(column), len(column)) == ([0] if counts else [])


def test_of_few_rows_nothing_is_said() -> None:
    assert counting(splits(np.arange(15)), 15) == []
    assert counting(splits(np.random.default_rng(0).permutation(15)), 15) == []


def test_a_sample_of_rows_is_enough() -> None:
    draw = np.random.default_rng(0)
    for column, counts in (
        (draw.permutation(100_000), True),
        (draw.permutation(200_000)[:100_000], False),
        (draw.integers(0, 100_000, 100_000), False),
    ):
        train, valid, test = splits(column)
        assert counting([train[:5000], valid, test], 100_000) == ([0] if counts else [])


def test_a_column_of_row_numbers_is_told_before_training(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(500, 2))
    rows = "".join(f"{k},{a!r},{b!r}\n" for k, (a, b) in enumerate(x.tolist(), 1))
    (tmp_path / "a.csv").write_text("id,a,b\n" + rows)
    (found,) = findings(load(tmp_path / "a.csv"))
    assert (found.kind, found.columns) == ("row numbers", (0,))
    assert "columns that count rows: column 'id'; " in found.sentence and "dataset.columns=[…]" in found.sentence
    assert findings(load(tmp_path / "a.csv", columns=["a", "b"])) == []
    (found,) = findings(load(tmp_path / "a.csv", num_train=200))
    assert found.kind == "row numbers"


@pytest.mark.parametrize(
    "order", [np.arange(500), np.random.default_rng(1).permutation(500)], ids=["rising", "shuffled"]
)
def test_a_column_of_row_numbers_is_told_wherever_data_come_in(order: np.ndarray, tmp_path: Path, capsys: Any) -> None:
    x = np.column_stack([order, np.random.default_rng(0).normal(size=(500, 2))])
    np.savetxt(tmp_path / "a.csv", x, delimiter=",", header="id,a,b", comments="")
    words = ["dataset=file", f"dataset.path={tmp_path / 'a.csv'}", "flow=affine", "cif=false"]
    assert main(["show", *words]) == 0
    assert "dataset 'file': columns that count rows: column 'id'; " in capsys.readouterr().out
    with pytest.warns(DataWarning, match="columns that count rows: column 1 of 3"):
        cifrun.fit(cifrun.Flow("affine", dim=3), x, steps=1)
