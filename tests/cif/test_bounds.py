"""Data that a spline can't reach are told from data that it can."""

from __future__ import annotations

import pytest
import torch

from cifrun.build import build_data, build_model, build_standardize, facts_of
from cifrun.cif.bounds import beyond_bound
from cifrun.cif.model import Model
from cifrun.cli.hydra_app import configure
from cifrun.data.base import Data
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
    assert sentence is not None and sentence.startswith("5.")
    assert " % of the numbers in the training data are beyond ±3," in sentence and "standardize=true" in sentence
    assert "100 %" in str(beyond_bound(model(*flow), x + 20))


@pytest.mark.parametrize("flow", [["flow=nsf_ar"], ["flow=nsf_coupling"], ["flow=sos", "flow.bound=3"]], ids=" ".join)
@pytest.mark.parametrize("k", range(4))
def test_the_column_with_the_largest_share_is_named(flow: list[str], k: int) -> None:
    x = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    x[:500, k] += 20
    sentence = beyond_bound(model(*flow, dim=4), x, "abcd".__getitem__)
    assert sentence is not None and f" % of those in {'abcd'[k]}, are beyond ±3," in sentence
    assert "training data, and 50" in sentence


@pytest.mark.parametrize("kind", ["true", "whiten"])
def test_standardised_data_are_not_to_be_standardised(kind: str) -> None:
    """A part of the rows is far from the rest; one in the model's units, and one before the model sees them."""
    x = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    x[:100, 0] += 40
    x[100:180, 1] += 40
    config = configure(["flow=nsf_ar", f"dataset.standardize={kind}"])
    data = Data(x, x[:100], x[:100], columns=("a", "b"))
    standardised = build_model(config, (2,), build_standardize(config, data))
    (sentence,) = (s for s in facts_of(standardised, data).warnings if "beyond" in s)
    own = beyond_bound(build_model(config, (2,)), (x - x.mean(0)) / x.std(0))
    for told in (sentence, str(own)):
        assert " % of the numbers in the standardised training data" in told and "a larger flow.bound" in told
        assert "dataset.standardize" not in told
    assert (" % of those in column 'a', are" in sentence) == (kind == "true")


def far(n: int, dim: int, share: float, at: float, width: float) -> torch.Tensor:
    """Standard normal, but for a share of the first column, which is normal too, elsewhere."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, dim, generator=generator)
    elsewhere = torch.rand(n, generator=generator) < share
    x[:, 0] = torch.where(elsewhere, at + width * x[:, 0], x[:, 0])
    return x


@pytest.mark.parametrize(
    ("dim", "share", "width"), [(1, 0.01, 0.02), (1, 0.02, 0.02), (1, 0.02, 1.0), (4, 0.08, 0.02), (30, 0.02, 1.0)]
)
def test_a_part_far_from_the_rest_is_told_however_small_or_in_however_wide_a_table(
    dim: int, share: float, width: float
) -> None:
    x = far(4000, dim, share, 30.0, width)
    z = (x - x.mean(0)) / x.std(0)
    sentence = beyond_bound(model("flow=nsf_ar", dim=dim), z, [f"x{k}" for k in range(dim)].__getitem__)
    assert sentence is not None and " % of those in x0, are beyond ±3," in sentence
    loss = float(sentence.partition("up to about ")[2].partition(" nats")[0])
    assert 0.3 < loss < 0.6


@pytest.mark.parametrize("bound", [3, 5])
@pytest.mark.parametrize(("rows", "dim"), [(100, 30), (1000, 100), (4000, 2)])
def test_no_normal_table_is_told_of(rows: int, dim: int, bound: int) -> None:
    for seed in range(3):
        x = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))
        assert beyond_bound(model("flow=nsf_ar", f"flow.bound={bound}", dim=dim), x) is None


def test_the_loss_is_that_of_a_straight_line() -> None:
    """∫ p log(p/φ) over x > 3 of a normal distribution around 6: 18 nats, but for what lies below 3."""
    x = 6 + torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    told = str(beyond_bound(model("flow=nsf_ar", dim=1), x))
    assert float(told.partition("up to about ")[2].partition(" nats")[0]) == pytest.approx(18, abs=0.5)


@pytest.mark.parametrize("flow", ["nsf_ar", "nsf_coupling", "sos"])
@pytest.mark.parametrize("name", ["iris", "wine", "diabetes", "breast_cancer"])
def test_tables_with_heavy_tails_are_not_told_of_once_they_are_standardised(name: str, flow: str) -> None:
    config = configure([f"flow={flow}", f"dataset={name}", "dataset.standardize=true"])
    data = build_data(config)
    standardize = build_standardize(config, data)
    assert standardize is not None
    assert beyond_bound(build_model(config, data.shape, standardize), data.train[:]) is None
    with torch.no_grad():  # what a user has standardised
        assert beyond_bound(build_model(config, data.shape), standardize(data.train[:])[0]) is None


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
