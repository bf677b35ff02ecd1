"""Curves over training skip gaps and show seeds as a band; a film has its frames in order, and goes on where it was."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from cifrun.figures.density import samples_figure
from cifrun.figures.style import rendered, save
from cifrun.figures.training import Film, compare_training, training_figure
from cifrun.training.loop import train
from tests.helpers import small_config


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


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.7e308, -1.7e308])
def test_a_value_that_no_scale_can_show_is_left_out(value: float, tmp_path: Path) -> None:
    rows = [{"step": k, "valid/log_likelihood": -1.0 - k, "train/elbo": value} for k in range(20)]
    rows[5]["valid/log_likelihood"] = value
    figure = compare_training({"a": [rows, rows], "b": [[{"step": 1, "valid/log_likelihood": value}]]})
    assert list(figure.axes[0].lines[0].get_xdata()) == [k for k in range(20) if k != 5]
    save(figure, tmp_path / "a.png")
    save(training_figure(rows), tmp_path / "b.png")


# --- the film ---------------------------------------------------------------------------------------------------------


def picture(k):
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(k)) * (1 + k / 5)
    return samples_figure(x, x, ((-4.0, 4.0), (-4.0, 4.0)), f"step {k}")


def test_a_film_has_its_frames_in_order_and_fits(tmp_path, monkeypatch):
    film = Film(tmp_path)
    assert film.write(tmp_path / "x.gif", 10) is None  # nothing was drawn
    for k in (1, 10, 2, 30):
        film.add(k, rendered(picture(k)))
    data = film.write(tmp_path / "x.gif", last_step=10)
    assert data == (tmp_path / "x.gif").read_bytes()
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.n_frames == 3 and gif.size[0] == Film.WIDTH and gif.info["loop"] == 0
        shown = gif.convert("RGB").tobytes()
        assert {gif.convert("RGB").getpixel(corner) for corner in ((0, 0), (Film.WIDTH - 1, 0))} == {(255, 255, 255)}
    with Image.open(tmp_path / "frames" / f"{1:08d}.png") as first:
        difference = [abs(a - b) for a, b in zip(shown, first.convert("RGB").tobytes(), strict=True)]
    assert sum(difference) / len(difference) < 3  # colours are those of one palette
    monkeypatch.setattr(Film, "MOST_BYTES", len(data) * 2 // 3 + 500)
    assert len(film.write(tmp_path / "x.gif", last_step=10)) < len(data)


def test_a_run_that_goes_on_continues_its_film(tmp_path):
    def config(steps):
        options = {"max_steps": steps, "batch_size": 50, "progress": False, "plot_every": 2, "valid_every": 10}
        few = {"importance_samples": 1, "valid_importance_samples": 1}
        return small_config("maf", False, trainer=options, eval=few, diagnostics={"enabled": False})

    train(config(2), tmp_path)
    assert not (tmp_path / "figures" / "density.gif").exists()
    train(config(4), tmp_path, resume=True)
    with Image.open(tmp_path / "figures" / "density.gif") as gif:
        assert gif.n_frames == 2
    assert {path.suffix for path in (tmp_path / "figures").glob("density.*")} == {".png", ".pdf", ".gif"}
