"""Curves over training skip gaps, ignore the start, and show seeds as a band."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifrun.figures.style import save
from cifrun.figures.training import compare_training, training_figure


def test_curves_skip_gaps_and_ignore_the_start() -> None:
    rows = [{"step": k, "train/elbo": -1.5 - (1e6 if k == 0 else 0)} for k in range(0, 500, 10)]
    rows += [{"step": 500, "train/elbo": None}, {"step": 100, "valid/log_likelihood": -1.4}, {"step": 7}]
    figure = training_figure(rows, truth=-1.386)
    training, validation, truth = figure.axes[0].lines
    assert len(training.get_xdata()) == 50 and len(validation.get_xdata()) == 1 and truth.get_label() == "truth"
    low, high = figure.axes[0].get_ylim()
    assert -2 < low < -1.5 and -1.386 < high < -1


def test_of_a_run_without_records_there_is_only_the_truth(tmp_path: Path) -> None:
    figure = training_figure([], truth=-1.0)
    (axis,) = figure.axes
    assert [line.get_label() for line in axis.lines if len(line.get_xdata())] == ["truth"]
    save(figure, tmp_path / "training.png")
    assert (tmp_path / "training.png").stat().st_size > 1000


def test_seeds_are_a_band() -> None:
    def rows(shift: float, last: int) -> list[dict[str, float]]:
        return [{"step": k, "valid/log_likelihood": shift - 100 / (k + 1)} for k in range(0, last, 50)]

    figure = compare_training({"a": [rows(0, 500), rows(1, 400)], "b": [rows(3, 300)], "none": [[]]}, truth=4.0)
    (axis,) = figure.axes
    a, b, truth = axis.lines
    assert list(a.get_xdata()) == list(range(0, 400, 50))  # the steps that both seeds have
    assert a.get_ydata()[3] == pytest.approx(0.5 - 100 / 151)
    assert [a.get_label(), b.get_label(), truth.get_label()] == ["a, 2 seeds", "b", "truth"]
    (band,) = axis.collections
    heights = band.get_paths()[0].vertices
    column = heights[heights[:, 0] == 150, 1]
    assert column.max() - column.min() == pytest.approx(1)
