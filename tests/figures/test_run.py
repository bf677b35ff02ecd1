"""Which pictures a run draws: for any data and any side, and while a model can't be sampled."""

from __future__ import annotations

import pytest

from cifrun.build import build_data, build_model
from cifrun.diagnostics.measure import Diagnostics
from cifrun.errors import ConvergenceError
from cifrun.figures.run import draw, draw_diagnostics
from tests.helpers import small_config

FEW = {"samples": 50, "density_points": 20, "density_samples": 2, "jacobian_points": 10, "weight_points": 5,
       "weights": 30}  # fmt: skip


def fails(z):
    raise ConvergenceError("no inverse out there")


@pytest.mark.parametrize(("cif", "title"), [(False, "two_uniforms: maf"), (True, "two_uniforms: CIF of maf")])
def test_a_title_names_data_and_model(cif, title):
    config = small_config("maf", cif)
    data = build_data(config)
    pictures = dict(draw(build_model(config, data.shape), data, config, step=1500))
    assert list(pictures) == ["density", "samples"]
    assert {figure.get_suptitle() for figure in pictures.values()} == {f"{title}, step 1,500"}


@pytest.mark.parametrize("training", [False, True])
def test_a_model_that_cannot_be_sampled_is_not_drawn_and_goes_on_as_it_was(training, monkeypatch, capsys):
    config = small_config("maf", False)
    data = build_data(config)
    model = build_model(config, data.shape).train(training)
    monkeypatch.setattr(model.steps[0].bijection, "inverse", fails)
    assert list(draw(model, data, config)) == []
    assert "can't be sampled: no inverse out there" in capsys.readouterr().err
    assert model.training == training


@pytest.mark.parametrize(
    ("cif", "expected"), [(False, ["lipschitz", "maps"]), (True, ["lipschitz", "bounds", "maps", "index"])]
)
def test_each_side_has_its_pictures(cif, expected):
    config = small_config("maf", cif, diagnostics=FEW)
    data = build_data(config)
    model = build_model(config, data.shape).eval()
    names = [name for name, _ in draw_diagnostics(model, data, config, Diagnostics(config, data)(model))]
    assert names == expected
    assert list(draw_diagnostics(build_model(config, (3,)).eval(), data, config, {})) == []


def test_a_map_that_cannot_be_drawn_is_left_out(monkeypatch, capsys):
    config = small_config("maf", False)
    data = build_data(config)
    model = build_model(config, data.shape).eval()
    monkeypatch.setattr(model.steps[0].bijection, "inverse", fails)
    assert list(draw_diagnostics(model, data, config, {})) == []
    assert "no inverse out there" in capsys.readouterr().err
