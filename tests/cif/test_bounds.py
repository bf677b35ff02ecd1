"""Data that a spline can't reach are told from data that it can."""

from __future__ import annotations

import pytest
import torch

from cifrun.build import build_data, build_model, build_standardize
from cifrun.cif.bounds import beyond_bound
from cifrun.cif.model import Model
from cifrun.cli.hydra_app import configure
from cifrun.registry import DATASETS


def model(*overrides: str, dim: int = 2) -> Model:
    return build_model(configure(["cif=true", *overrides]), (dim,))


@pytest.mark.parametrize(
    "flow",
    [
        ["flow=nsf_ar"],
        ["flow=nsf_coupling"],
        ["flow=sos", "flow.bound=3"],
    ],
    ids=" ".join,
)
def test_a_bound_is_told_with_the_share_beyond_it(flow: list[str]) -> None:
    torch.manual_seed(0)
    x = torch.randn(1000, 2)
    assert beyond_bound(model(*flow), x) is None  # 0.27 % of a standard normal
    sentence = beyond_bound(model(*flow), torch.cat([x[:900], x[900:] + torch.tensor([0.0, 20.0])]))
    assert sentence is not None and sentence.startswith("6 % of the numbers in the training data are beyond ±3,")
    assert "100 %" in str(beyond_bound(model(*flow), x + 20))


def test_the_bounds_of_zukos_flows_are_known() -> None:
    found = {name: model("flow=zuko", f"flow.name={name}").steps[0].bijection.bends_within for name in ("NSF", "BPF")}
    assert found == {"NSF": 5.0, "BPF": 5.0}
    assert model("flow=zuko", "flow.name=MAF").steps[0].bijection.bends_within == float("inf")


@pytest.mark.parametrize("flow", ["maf", "realnvp", "bnaf", "resflow", "cnf", "planar"])
def test_flows_that_bend_everywhere_have_none(flow: str) -> None:
    assert beyond_bound(model(f"flow={flow}"), 100 * torch.randn(10, 2)) is None


def test_standardised_data_are_looked_at_as_the_flow_sees_them() -> None:
    config = configure(["flow=nsf_ar", "dataset=wine", "dataset.standardize=true"])
    data = build_data(config)
    raw, standardised = (
        build_model(config, data.shape),
        build_model(config, data.shape, build_standardize(config, data)),
    )
    assert beyond_bound(raw, data.train[:]) is not None and beyond_bound(standardised, data.train[:]) is None


@pytest.mark.parametrize("name", [name for name in DATASETS if hasattr(DATASETS[name], "log_prob")])
def test_no_target_is_told_of_once_it_is_standardised(name: str) -> None:
    config = configure(["flow=nsf_ar", f"dataset={name}", "dataset.num_train=2000", "dataset.standardize=true"])
    data = build_data(config)
    assert beyond_bound(build_model(config, data.shape, build_standardize(config, data)), data.train[:]) is None


def test_nothing_is_left_behind() -> None:
    spline = model("flow=nsf_ar").train()
    before, state = torch.get_rng_state(), {name: p.clone() for name, p in spline.state_dict().items()}
    beyond_bound(spline, torch.randn(10, 2, generator=torch.Generator()))
    assert spline.training and torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p, spline.state_dict()[name]) for name, p in state.items())
