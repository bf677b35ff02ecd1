"""All diagnostics together: of every flow, with any data, in a run; and what happens where one can't be computed."""

from __future__ import annotations

import json
import math

import pytest
import torch

from cifrun.build import build_data, build_model, build_standardize
from cifrun.compute import memory
from cifrun.diagnostics.measure import Diagnostics, scalars
from cifrun.errors import ConfigError, ConvergenceError
from cifrun.evaluation.evaluate import evaluate
from cifrun.registry import FLOWS
from cifrun.runs.directory import RunDirectory
from cifrun.runs.records import read_metrics
from cifrun.training.loop import train
from tests.helpers import randomise, small_config

FEW = {
    "samples": 200, "density_points": 100, "density_samples": 3, "jacobian_points": 20, "weight_points": 10,
    "weights": 50,
}  # fmt: skip
TOPOLOGY = {"mass_off_support", "mass_off_support_se", "components", "mass_misplaced", "coverage", "coverage_se"}
INVERTIBILITY = {"lip_f", "lip_f_inverse", "bi_lipschitz", "lipschitz_by_depth", "log_abs_det_min", "log_abs_det_max"}
TRUST = {"log_w_variance", "log_w_variance_se", "pareto_k", "pareto_k_high", "iwae_curve", "bracket", "bracket_gap_se"}
ROUND_TRIPS = {f"round_trip_{place}_{p}" for place in ("data", "samples", "far") for p in ("float32", "float64")}


def setup(family, cif, **settings):
    config = small_config(family, cif, diagnostics=FEW, **settings)
    data = build_data(config)
    return build_model(config, data.shape), Diagnostics(config, data)


@pytest.mark.parametrize("cif", [False, True], ids=["plain", "cif"])
@pytest.mark.parametrize("flow", [name for name in FLOWS if not FLOWS[name].images])
def test_every_flow_is_measured_whole(flow, cif):
    if FLOWS[flow].needs_index and not cif:
        pytest.skip("this flow is made of its index")
    model, measure = setup(flow, cif)
    result = measure(model)
    assert "left_out" not in result
    assert result.keys() >= TOPOLOGY | INVERTIBILITY | ROUND_TRIPS
    assert (result.keys() >= TRUST) == cif
    assert json.loads(json.dumps(result)) == result
    assert result["round_trip_data_float64"] < 1e-5
    assert result["bi_lipschitz"] >= 1 or math.isclose(result["bi_lipschitz"], 1, rel_tol=1e-6)


@pytest.mark.parametrize("flow", ["glow", "realnvp_image", "resflow_image"])
def test_flows_of_images_are_measured(flow, cif=True):
    pytest.importorskip("sklearn")
    config = small_config(
        flow,
        cif,
        "digits",
        {"depth": 1, "scales": 2, **({"width": 4} if flow == "glow" else {"hidden": [4, 4]})},
        index={"st": [4], "p": [4], "q": [4]},
        diagnostics={**FEW, "jacobian_points": 8, "density_points": 10, "weight_points": 5, "weights": 40},
    )
    data = build_data(config)
    result = Diagnostics(config, data)(build_model(config, data.shape, build_standardize(config, data)))
    assert "left_out" not in result
    assert result.keys() >= INVERTIBILITY | TRUST | {"coverage"} and not any("far" in key for key in result)
    assert result["round_trip_data_float64"] < 1e-9


def test_measuring_changes_nothing_and_repeats_itself():
    model, measure = setup("resflow", True)
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = measure(model)
    assert torch.equal(torch.rand(3), expected)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert measure(model) == first


def test_a_model_that_cannot_be_sampled_is_measured_where_it_can(monkeypatch, capsys):
    model, measure = setup("realnvp", True)
    randomise(model)

    def fails(z):
        raise ConvergenceError("the inverse did not converge")

    monkeypatch.setattr(model.steps[1].bijection, "inverse", fails)
    result = measure(model)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(result["left_out"]) and all("did not converge" in line for line in said)
    assert {"lip_f", "pareto_k", "iwae_curve"} <= result.keys()  # these need no samples
    assert not {"coverage", "mass_off_support", "bracket", "round_trip_samples_float32"} & result.keys()


def test_data_without_a_known_density():
    config = small_config("maf", True, diagnostics=FEW)
    data = build_data(config)
    data = type(data)(*(torch.randn(50, 5) for _ in range(3)))
    result = Diagnostics(config, data)(build_model(config, (5,)))
    assert "left_out" not in result and {"coverage", "lip_f", "pareto_k"} <= result.keys()
    assert not {"mass_off_support", "components"} & result.keys()


def test_diagnostics_without_room_are_refused_before_any_is_measured(monkeypatch):
    monkeypatch.setattr(memory, "_meminfo", lambda name: 2**34)
    for few in ({"weight_points": 10**7, "weights": 10**7}, {"samples": 10**7}, {"density_points": 10**7}):
        config = small_config("maf", True, diagnostics={**FEW, **few})
        data = build_data(config)
        wide = type(data)(*(torch.zeros(1, 500).expand(50, 500) for _ in range(3)))
        with pytest.raises(ConfigError, match="would take"):
            Diagnostics(config, wide)
        Diagnostics(small_config("maf", True, diagnostics={**FEW, **few, "enabled": False}), wide)


def test_numbers_for_records_have_no_tables():
    model, measure = setup("realnvp", True)
    shown = scalars(measure(model), "diagnostics")
    assert all(isinstance(v, float) and k.startswith("diagnostics/") for k, v in shown.items())
    assert {"diagnostics/bi_lipschitz", "diagnostics/mass of left", "diagnostics/bracket_gap"} <= shown.keys()
    assert not any(k.endswith("_se") for k in shown)


def run_config(**diagnostics):
    options = {"max_steps": 6, "batch_size": 100, "progress": False, "plot_every": 0, "valid_every": 3}
    few = {"importance_samples": 2, "valid_importance_samples": 1}
    return small_config("maf", True, trainer=options, eval=few, diagnostics={**FEW, **diagnostics})


@pytest.mark.usefixtures("without_pictures")
def test_a_run_is_measured_on_the_way_and_at_the_end(tmp_path):
    summary = train(run_config(every=2), tmp_path / "often")
    assert summary["test"].keys() >= TOPOLOGY | INVERTIBILITY | TRUST | {"kl_to_truth"}
    assert json.loads((tmp_path / "often" / "summary.json").read_text())["test"]["components"][0]["name"] == "left"
    rows = read_metrics(tmp_path / "often" / "metrics.jsonl")
    assert [row["step"] for row in rows if "diagnostics/bi_lipschitz" in row] == [2, 4, 6]
    assert any("test/bi_lipschitz" in row for row in rows)
    never = train(run_config(enabled=False, every=2), tmp_path / "never")
    assert "bi_lipschitz" not in never["test"]
    a, b = (RunDirectory(tmp_path / name).load_checkpoint("latest").tensors for name in ("often", "never"))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)  # training did not notice
    config = RunDirectory(tmp_path / "often").config()
    again = evaluate(tmp_path / "often", config)
    assert again["bi_lipschitz"] == summary["test"]["bi_lipschitz"]
