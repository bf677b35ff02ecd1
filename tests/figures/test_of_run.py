"""Which pictures a run draws: for any data, any side, and across a kill; and the film of its density."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from cifrun.build import build_data, build_model
from cifrun.cif.paths import generate
from cifrun.diagnostics import Diagnostics
from cifrun.diagnostics.index_use import posteriors, reach
from cifrun.errors import ConvergenceError
from cifrun.figures import plots
from cifrun.figures.of_run import Film, draw_diagnostics
from cifrun.training.loop import train

from .helpers import small_config, small_model

FEW = {"samples": 50, "density_points": 20, "density_samples": 2, "jacobian_points": 10, "weight_points": 5,
       "weights": 30}  # fmt: skip


@pytest.mark.parametrize(("cif", "expected"), [(False, ["lipschitz", "maps"]), (True, [])])
def test_each_side_has_its_pictures(cif, expected):
    config = small_config("maf", cif, diagnostics=FEW)
    data = build_data(config)
    model = build_model(config, data.shape).eval()
    names = [name for name, _ in draw_diagnostics(model, data, config, Diagnostics(config, data)(model))]
    assert names == (expected or ["lipschitz", "bounds", "maps", "index"])
    assert list(draw_diagnostics(build_model(config, (3,)).eval(), data, config, {})) == []


def test_a_map_that_cannot_be_drawn_is_left_out(monkeypatch, capsys):
    config = small_config("maf", False, diagnostics=FEW)
    data = build_data(config)
    model = build_model(config, data.shape).eval()

    def fails(z):
        raise ConvergenceError("no inverse out there")

    monkeypatch.setattr(model.steps[0].bijection, "inverse", fails)
    assert list(draw_diagnostics(model, data, config, {})) == []
    assert "no inverse out there" in capsys.readouterr().err


def test_reach_is_the_standard_deviation_that_u_causes():
    """z' = z − t(u) with t linear and u standard normal: the standard deviation is that of A u."""
    model = small_model("affine", True, index={"st": [], "p": "standard_normal", "q": [], "dim": 2, "depth": 1})
    a = torch.tensor([[0.6, 0.0], [0.3, 0.4]]).double()
    with torch.no_grad():
        weight, bias = model.steps[0].index.st.parameters()
        weight.copy_(torch.cat([torch.zeros(2, 2), a]))
        bias.zero_()
    torch.manual_seed(0)
    path = generate(model, torch.randn(20_000, 2, dtype=torch.float64))
    first, *others = reach(model, path)
    assert first == pytest.approx(a.square().sum().div(2).sqrt().item(), rel=0.03)
    assert others == [None] * (len(model.steps) - 1)


def test_posteriors_are_those_of_q():
    model = small_model("maf", True)
    x = torch.randn(7, 2, dtype=torch.float64)
    q = [of for of in posteriors(model, x) if of is not None]
    below, _ = model.steps[0].bijection(x)
    assert len(q) == sum(step.index is not None for step in model.steps)
    torch.testing.assert_close(q[0].mean, model.steps[0].index.q(x, below).mean)


# --- the film ---------------------------------------------------------------------------------------------------------


def picture(k):
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(k)) * (1 + k / 5)
    return plots.samples_figure(x, x, ((-4.0, 4.0), (-4.0, 4.0)), f"step {k}")


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
