"""The numbers of a test result against closed forms, and what becomes of them in tables and records."""

from __future__ import annotations

import csv
import math
import statistics
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from cifrun.bijections.base import Identity
from cifrun.cif.actions import AffineAction
from cifrun.cif.importance import Estimate
from cifrun.cif.index import Index
from cifrun.cif.model import Model
from cifrun.cif.step import Step
from cifrun.config.schema import Config
from cifrun.data.base import Box, Data, Target, square
from cifrun.diagnostics.measure import Diagnostics
from cifrun.errors import ConfigError
from cifrun.evaluation import evaluate
from cifrun.evaluation.evaluate import estimate_split, evaluate_split, read_other, report, scalars, write_points
from tests.helpers import small_config, small_model

#: The direction along which the u of `noisy` moves a point.
W = torch.tensor([0.5, -0.3], dtype=torch.float64)


class Shifted(Target):
    """N(μ, I), of which only the density is asked."""

    mean = torch.tensor([0.75, -1.0], dtype=torch.float64)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def log_prob(self, x: Tensor) -> Tensor:
        return Normal(self.mean, 1.0).log_prob(x).sum(1)

    @property
    def window(self) -> Box:
        return square(6.0)


class Weighed(Identity):
    """The identity, with a parameter that says where a model is and in what precision."""

    def __init__(self) -> None:
        super().__init__((2,))
        self.nothing = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))


def normal() -> Model:
    """A plain flow that is the identity, so that its density is the standard normal's."""
    return Model([Step(Weighed())])


def noisy() -> Model:
    """x = z − u W with u ~ N(0, 1), whose q is the prior: log w(x, u) = log N(x + u W; 0, I)."""
    index = Index((2,), (2,), AffineAction(), st=[], p="standard_normal", q="standard_normal").double()
    with torch.no_grad():
        index.st[0].weight.zero_()
        index.st[0].bias.zero_()
        index.st[0].weight[2:, 0] = W
    return Model([Step(Identity((2,)), index)])


def points(count: int) -> Tensor:
    return torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def config_of(cif: bool = False, **groups: Any) -> Config:
    return small_config("affine", cif, **groups)


# --- the numbers ------------------------------------------------------------------------------------------------------


def test_a_known_density_gives_its_mean_and_standard_error() -> None:
    x = points(2500)
    exact = Normal(0.0, 1.0).log_prob(x).sum(1).tolist()
    mean, error = statistics.fmean(exact), statistics.stdev(exact) / math.sqrt(2500)
    _, result = evaluate_split(normal(), x, config_of(), 7)
    assert result.pop("seconds") >= 0
    bits = 2 * math.log(2)
    assert result == {
        "log_likelihood": pytest.approx(mean, rel=1e-12), "log_likelihood_se": pytest.approx(error, rel=1e-12),
        "elbo": pytest.approx(mean, rel=1e-12), "elbo_se": pytest.approx(error, rel=1e-12), "gap": 0.0, "gap_se": 0.0,
        "bits_per_dim": pytest.approx(-mean / bits), "bits_per_dim_se": pytest.approx(error / bits),
        "ess": 1.0, "exact": True, "importance_samples": 1, "num_data": 2500,
    }  # fmt: skip


def test_one_datum_has_a_mean_and_no_error() -> None:
    _, result = evaluate_split(normal(), torch.zeros(1, 2), config_of(), 1)
    assert result["log_likelihood"] == pytest.approx(-math.log(2 * math.pi)) and math.isnan(result["log_likelihood_se"])


def test_kl_to_the_truth_is_the_mean_difference_of_log_densities() -> None:
    """log p*(x) − log p(x) = μᵀx − |μ|²/2, whose mean is KL(p* ‖ p) = |μ|²/2 where x comes from p*."""
    x, mean = points(400) + Shifted.mean, Shifted.mean
    differences = (x @ mean - mean @ mean / 2).tolist()
    _, result = evaluate_split(normal(), x, config_of(), 1, Shifted(name="shifted"))
    error = statistics.stdev(differences) / 20
    assert result["kl_to_truth"] == pytest.approx(statistics.fmean(differences), rel=1e-9)
    assert result["kl_to_truth_se"] == pytest.approx(error, rel=1e-9)
    assert abs(result["kl_to_truth"] - (mean @ mean / 2).item()) < 5 * error


def test_estimates_of_a_linear_gaussian_model_are_its_closed_forms() -> None:
    """p(x) = N(x; 0, I + WWᵀ), E log w = log N(x; 0, I) − |W|²/2, E w² = N(x; 0, I/2 + WWᵀ) / 4π.

    Five standard errors of each: Var log w = (xᵀW)² + |W|⁴/2, and of log Σw it is (E w² / (E w)² − 1) / m.
    """
    x, m = points(40), 1000
    result = estimate_split(noisy(), x, config_of(True, eval={"chunk_size": 5000}), m)

    def log_normal(covariance: Tensor) -> Tensor:
        return MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance).log_prob(x)

    identity, outer = torch.eye(2, dtype=torch.float64), torch.outer(W, W)
    log_p = log_normal(identity + outer)
    ratio = torch.exp(log_normal(identity / 2 + outer) - math.log(4 * math.pi) - 2 * log_p)
    assert ((result.log_likelihood - log_p).abs() < 5 * ((ratio - 1) / m).sqrt()).all()
    elbo, variance = log_normal(identity) - W @ W / 2, (x @ W) ** 2 + (W @ W) ** 2 / 2
    assert ((result.elbo - elbo).abs() < 5 * (variance / m).sqrt()).all()
    torch.testing.assert_close(result.ess, m / ratio, rtol=0.1, atol=0)
    _, told = evaluate_split(noisy(), x, config_of(True, eval={"chunk_size": 5000}), m)
    gaps = result.log_likelihood - result.elbo
    assert told["gap"] == pytest.approx(gaps.mean().item())
    assert told["gap_se"] == pytest.approx(gaps.std().item() / math.sqrt(40))
    assert told["ess"] == pytest.approx(result.ess.mean().item()) and not told["exact"]
    assert (told["importance_samples"], told["num_data"]) == (m, 40)


@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_pieces_of_any_size_give_each_datum_its_own_number(count: int, rows: int, chunk: int) -> None:
    x = points(count)
    with patch.object(evaluate, "ROWS", rows):
        found = estimate_split(normal(), x, config_of(eval={"chunk_size": chunk}), 5)
    torch.testing.assert_close(found.log_likelihood, Normal(0.0, 1.0).log_prob(x).sum(1))


@pytest.mark.parametrize("training", [True, False])
def test_draws_follow_the_seed_of_evaluation_and_leave_training_as_it_is(training: bool) -> None:
    model, x = small_model("affine", True).train(training), points(30)
    before = torch.get_rng_state()
    one, same, other = (
        estimate_split(model, x, config_of(True, eval={"seed": seed}), 3).log_likelihood for seed in (0, 0, 1)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert model.training is training and torch.equal(torch.get_rng_state(), before)
    assert not one.requires_grad


# --- the result of a run ----------------------------------------------------------------------------------------------


def test_diagnostics_are_part_of_the_result_where_they_are_on_and_asked_for() -> None:
    x, found = points(20), {"coverage": 0.5}
    data = Data(points(2), points(3), x, Shifted(name="shifted"))
    measure = cast(Diagnostics, lambda model: found)
    results = [
        evaluate.result_of(normal(), data, config_of(diagnostics={"enabled": on}), ask)[1]
        for on, ask in ((True, measure), (True, None), (False, measure))
    ]
    assert ["coverage" in result for result in results] == [True, False, False]
    assert all(result["num_data"] == 20 and "kl_to_truth" in result for result in results)


def test_a_run_is_told_that_its_test_result_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    x = points(20)
    x[3] = math.nan
    evaluate.result_of(normal(), Data(points(2), points(3), x), config_of(), None)
    assert capsys.readouterr().err.startswith("cifrun: log p(x) is no number for 1 of the 20 test data, row 4 first: ")


def test_a_line_for_each_datum_loses_nothing_of_single_precision(tmp_path: Path) -> None:
    numbers = torch.tensor([[-1.2345678, 1e-7 / 3, -12345.678], [-2.0, 0.1, -3e10], [1.0, 17.3, 2.0]])
    write_points(tmp_path / "points.csv", Estimate(*numbers, importance_samples=20))
    with open(tmp_path / "points.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["row", "log_likelihood", "elbo", "ess"]
    assert [row["row"] for row in rows] == ["1", "2", "3"]
    again = [[float(row[name]) for row in rows] for name in ("log_likelihood", "elbo", "ess")]
    assert torch.equal(torch.tensor(again), numbers)


# --- other data -------------------------------------------------------------------------------------------------------


def test_other_data_are_found_by_the_names_of_their_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.csv"
    file.write_text("x2,note,x1\n1,7,2\n3,8,4\n")
    assert read_other(file, normal(), config_of()).tolist() == [[2, 1], [4, 3]]
    assert capsys.readouterr().err == f"cifrun: ignored columns of {file}: note\n"
    model = normal()
    model.columns = ("note", "x2")
    assert read_other(file, model, config_of()).tolist() == [[7, 1], [8, 3]]
    model.columns = ("note", "x3")
    with pytest.raises(ConfigError, match=r"^\S+other\.csv has no column 'x3': it has x2, note, x1; did you mean 'x"):
        read_other(file, model, config_of())


def test_other_data_are_read_as_the_file_was_that_the_run_was_trained_on(tmp_path: Path) -> None:
    dataset = {"name": "file", "path": str(tmp_path / "first.csv"), "delimiter": ";"}
    config = Config.parse({"dataset": dataset, "flow": {"family": "affine"}})
    (tmp_path / "other.csv").write_text("b;a\n1;2\n")
    model = normal()
    model.columns = ("a", "b")
    assert read_other(tmp_path / "other.csv", model, config).tolist() == [[2, 1]]


@pytest.mark.parametrize(("levels", "kind"), [(2, torch.bool), (17, torch.uint8)])
def test_other_images_are_of_the_kind_that_the_run_was_trained_on(
    levels: int, kind: torch.dtype, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, levels, (5, 1, 2, 3)).astype(np.uint8)
    np.save(tmp_path / "x.npy", images)
    model = Model([Step(Identity((1, 2, 3)))])
    model.levels = levels
    found = read_other(tmp_path / "x.npy", model, config_of())
    assert found.dtype == kind and np.array_equal(found.numpy(), images)
    np.save(tmp_path / "x.npy", images + 1)
    with pytest.raises(ConfigError, match=f"holds pixels up to {levels}; those of the run's images are below {levels}"):
        read_other(tmp_path / "x.npy", model, config_of())


# --- for a reader -----------------------------------------------------------------------------------------------------

RESULT = {
    "log_likelihood": -1.5, "log_likelihood_se": 0.012, "elbo": -1.75, "elbo_se": 0.25, "ess": 3.25,
    "exact": False, "importance_samples": 20, "num_data": 5000, "seconds": 2.5,
}  # fmt: skip


def test_records_show_means_and_the_errors_of_those_that_are_quoted() -> None:
    shown = scalars({**RESULT, "components": [{"name": "left", "mass": 0.25}]})
    assert shown == {
        "test/log_likelihood": -1.5, "test/log_likelihood_se": 0.012, "test/elbo": -1.75, "test/ess": 3.25,
        "test/mass of left": 0.25, "best/log_likelihood": -1.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cif", "exact", "kind"), [(True, False, "IWAE_20"), (False, True, "exact"), (False, False, "unbiased log-det")]
)
def test_a_report_says_what_the_likelihood_is_and_of_an_exact_one_no_bound(cif: bool, exact: bool, kind: str) -> None:
    config = config_of(cif)
    head, _, *lines = report(config, {**RESULT, "exact": exact}, "other.csv").splitlines()
    assert head.startswith(f"two_uniforms, {config.flow_name}") and head.endswith("other.csv, 5,000 data")
    assert " ".join(lines[0].split()) == f"log-likelihood ({kind}) −1.500 ± 0.012 nats"
    rest = [" ".join(line.split()) for line in lines[1:]]
    assert rest == ([] if exact else ["ELBO −1.75 ± 0.25 nats", "effective sample size 3.2 of 20"])


@pytest.mark.parametrize(("reaches", "unused"), [([0.002, 0.0], True), ([0.002, 0.3], False), ([], False)])
def test_a_report_says_that_an_index_is_unused(reaches: list[float], unused: bool) -> None:
    found = [{"depth": k, "reach": value} for k, value in enumerate(reaches, 1)]
    last = report(config_of(True), {**RESULT, "index_reach": found}, "test").splitlines()[-1]
    said = "the index is hardly used: u moves a coordinate by 0.002 at most"
    assert last.startswith(said) == unused
