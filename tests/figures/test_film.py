"""A film has its frames in order, fits into a megabyte, and goes on where it was."""

from __future__ import annotations

import torch
from PIL import Image

from cifrun.figures.film import Film
from cifrun.figures.marginals import samples_figure
from cifrun.training.loop import train
from tests.helpers import small_config


def picture(k):
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(k)) * (1 + k / 5)
    return samples_figure(x, x, ((-4.0, 4.0), (-4.0, 4.0)), f"step {k}")


def test_a_film_has_its_frames_in_order_and_fits(tmp_path, monkeypatch):
    film = Film(tmp_path)
    assert film.write(tmp_path / "x.gif", 10) is None  # nothing was drawn
    for k in (1, 10, 2, 30):
        film.add(k, picture(k))
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
