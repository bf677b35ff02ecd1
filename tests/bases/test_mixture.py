"""A mixture of Gaussians as p_0: its density, its draws, how it is fitted, and the run that begins with it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import cifrun
from cifrun.bases.mixture import GaussianMixture, best_mixture
from cifrun.build import build_data, load_model
from cifrun.cli.hydra_app import configure
from cifrun.errors import ConfigError
from cifrun.evaluation.references import references
from cifrun.runs.directory import RunDirectory
from cifrun.training.loop import train
from tests.helpers import ROOT
from tests.training.test_loop import same

#: A run that shows nothing and measures little.
QUICK = ["trainer.progress=false", "trainer.plot_every=0", "diagnostics.enabled=false", "device=cpu"]
DIMENSIONS = (1, 2, 3)


def groups(count: int, size: int) -> Tensor:
    """Points of three narrow groups, (count, size), float64."""
    generator = torch.Generator().manual_seed(5)
    centres = torch.tensor([[-2.0], [0.0], [3.0]]).double() * torch.ones(size)
    group = torch.randint(3, (count,), generator=generator)
    noise = torch.randn(count, size, generator=generator).double()
    return centres[group] + noise @ (0.3 * torch.eye(size).double() + 0.1 * torch.ones(size, size).tril())


def fitted(size: int, moved: float = 0.0) -> GaussianMixture:
    """Fitted to such points, in double precision; then with all its weights moved at random."""
    base = GaussianMixture((size,), 8).double()
    points = groups(2500, size)
    base.fit(points[:2000], points[2000:], 0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weights in base.parameters():
            weights += moved * torch.randn(weights.shape, generator=generator).double()
    return base


@pytest.mark.parametrize("size", DIMENSIONS)
def test_before_it_is_fitted_it_is_standard_normal(size: int) -> None:
    base, z = GaussianMixture((size,), 4).double(), torch.randn(50, size).double()
    expected = torch.distributions.Normal(0, 1).log_prob(z).sum(1)
    assert not base.fitted and base.wants_data
    torch.testing.assert_close(base.log_prob(z), expected)


@pytest.mark.parametrize("size", DIMENSIONS)
def test_once_fitted_it_has_the_density_of_scikit_learn(size: int) -> None:
    base, points = fitted(size), groups(2500, size)
    mean, std = points[:2000].mean(0), points[:2000].std(0, correction=0)
    rows = ((points - mean) / std).numpy()
    theirs = best_mixture(rows[:2000], rows[2000:], 8, 0)
    expected = torch.from_numpy(theirs.score_samples(rows)) - std.log().sum()
    assert base.fitted and base.used == theirs.n_components > 1
    torch.testing.assert_close(base.log_prob(points), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", (1, 2))
def test_it_integrates_to_one_wherever_training_moves_it(size: int) -> None:
    base = fitted(size, moved=0.3)
    line = torch.linspace(-25, 25, 4001 if size == 1 else 1201, dtype=torch.float64)
    grid = line[:, None] if size == 1 else torch.cartesian_prod(line, line)
    mass = base.log_prob(grid).exp().sum() * (line[1] - line[0]) ** size
    assert mass.item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("size", DIMENSIONS)
def test_draws_have_the_moments_of_the_density(size: int) -> None:
    """Means and second moments of 50 000 draws, within 5 of their standard errors: of at most 9 numbers of a seed that
    is fixed, a right program would fail in 1 of 10⁵ seeds."""
    base = fitted(size, moved=0.3)
    torch.manual_seed(1)
    z = base.draw(50_000, torch.empty(0, dtype=torch.float64))
    with torch.no_grad():
        scale, offset, _ = base._components()
        inverse = torch.linalg.inv(scale)
        means, weights = -torch.einsum("kd,kde->ke", offset, inverse), torch.softmax(base.logits[: base.used], 0)
        seconds = inverse.mT @ inverse + means[:, :, None] * means[:, None, :]
    products = (z[:, :, None] * z[:, None, :]).flatten(1)
    for values, expected in ((z, weights @ means), (products, (weights[:, None, None] * seconds).sum(0).flatten())):
        error = values.std(0) / math.sqrt(len(values))
        assert bool(((values.mean(0) - expected).abs() < 5 * error).all())


def test_its_gradient_is_that_of_finite_differences() -> None:
    base, z = fitted(2, moved=0.3), groups(5, 2).requires_grad_()
    assert torch.autograd.gradcheck(base.log_prob, z)
    parameters = list(base.parameters())

    def density(*weights: Tensor) -> Tensor:
        names = [name for name, _ in base.named_parameters()]
        return torch.func.functional_call(base, dict(zip(names, weights, strict=True)), z.detach(), strict=False)

    base.forward = base.log_prob  # type: ignore[method-assign]
    assert torch.autograd.gradcheck(density, parameters)


@pytest.mark.parametrize("cif", ["true", "false"])
@pytest.mark.parametrize("flow", ["nsf_coupling", "nsf_ar", "maf"])
def test_a_run_begins_with_the_mixture_and_never_ends_worse(flow: str, cif: str, tmp_path: Path) -> None:
    """These flows are the identity before training; so validation at step 0 is that of the mixture alone."""
    words = [
        f"flow={flow}",
        f"cif={cif}",
        "base=mixture",
        "base.components=8",
        "dataset=pinwheel",
        "eval.references=true",
    ]
    config = configure([*QUICK, *words, "dataset.num_train=500", "dataset.num_valid=200", "trainer.max_steps=5"])
    summary = train(config, tmp_path / "run")
    data = build_data(config)
    mean, std = data.train.double().mean(0), data.train.double().std(0, correction=0)
    rows = [((split.double() - mean) / std).numpy() for split in (data.train, data.valid)]
    best = best_mixture(rows[0], rows[1], 8, config.seed)
    expected = best.score(rows[1]) - std.log().sum().item()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    valid = [line["valid/log_likelihood"] for line in lines if "valid/log_likelihood" in line]
    assert valid[0] == pytest.approx(expected, abs=2e-3)
    assert summary["best_valid_log_likelihood"] >= valid[0]
    assert summary["test"]["mixture"] == pytest.approx(references(data, config.seed)["mixture"])


@pytest.mark.parametrize("norm", ["none", "actnorm", "batchnorm"])
def test_a_run_that_is_resumed_is_the_same_bit_for_bit(norm: str, tmp_path: Path) -> None:
    """Norms learn from the data too, and before the mixture does."""
    words = [*QUICK, "flow=maf", f"flow.norm={norm}", "base=mixture", "base.components=4", "dataset.num_train=300"]
    settings = [*words, "optimizer.schedule=none", "trainer.valid_every=4", "eval.importance_samples=2"]
    whole = train(configure([*settings, "trainer.max_steps=8"]), tmp_path / "whole")
    train(configure([*settings, "trainer.max_steps=4"]), tmp_path / "parts")
    parts = train(configure([*settings, "trainer.max_steps=8"]), tmp_path / "parts", resume=True)
    assert whole["test"]["log_likelihood"] == parts["test"]["log_likelihood"]
    for tag in ("latest", "best"):
        assert same(*(RunDirectory(tmp_path / name).load_checkpoint(tag) for name in ("whole", "parts")))


@pytest.mark.parametrize(("target", "keeps"), [("swiss_roll", True), ("circles", False)])
def test_what_it_begins_with_is_kept_unless_training_is_ahead_by_a_standard_error(
    target: str, keeps: bool, tmp_path: Path
) -> None:
    words = [*QUICK, f"dataset={target}", "flow=nsf_ar", "flow.hidden=[16]", "base=mixture", "base.components=8"]
    small = ["dataset.num_train=300", "dataset.num_valid=100", "trainer.max_steps=60", "trainer.valid_every=5"]
    config = configure([*words, *small, "cif=false", "optimizer.lr=0.001"])
    summary, run = train(config, tmp_path), RunDirectory(tmp_path)
    valid, model, log_p = build_data(config).valid, load_model(run), {}
    for tag in ("start", "best"):
        run.load_checkpoint(tag).load_model(model, tag)
        log_p[tag] = model.log_prob(valid).double()
    gain = log_p["best"] - log_p["start"]
    assert gain.mean() > 0, "else there is nothing to weigh"
    assert (gain.mean() < gain.std() / math.sqrt(len(valid))) == keeps
    used = run.load_best()[1]
    assert same(run.load_checkpoint("start" if keeps else "best"), used)
    assert summary["best_valid_log_likelihood"] == used.state["best_valid"]
    train(config, tmp_path, resume=True)
    assert same(run.load_best()[1], used) and run.summary()["best_valid_log_likelihood"] == used.state["best_valid"]


def test_a_warm_start_takes_the_mixture_too(tmp_path: Path) -> None:
    words = [*QUICK, "flow=nsf_ar", "flow.hidden=[8]", "base=mixture", "base.components=4", "dataset.num_train=300"]
    plain = train(configure([*words, "cif=false", "trainer.max_steps=4"]), tmp_path / "plain")
    config = configure([*words, "cif=true", "trainer.max_steps=1"])
    train(replace(config, warm_start=tmp_path / "plain"), tmp_path / "cif")
    lines = [json.loads(line) for line in (tmp_path / "cif" / "metrics.jsonl").read_text().splitlines()]
    first = next(line["valid/log_likelihood"] for line in lines if "valid/log_likelihood" in line)
    assert first == pytest.approx(plain["best_valid_log_likelihood"], abs=1e-5)


def test_a_saved_model_has_its_mixture(tmp_path: Path) -> None:
    model = cifrun.CIF("maf", dim=2, depth=2, base="mixture", base_components=4)
    cifrun.fit(model, groups(300, 2).float(), steps=3, valid=0.2, progress=False)
    assert model.base.fitted
    model.save(tmp_path / "saved")
    other, x = cifrun.load(tmp_path / "saved"), groups(20, 2).float()
    assert torch.equal(model.log_prob(x, seed=0), other.log_prob(x, seed=0))
    assert torch.equal(model.sample(50, seed=0), other.sample(50, seed=0))
    before = {name: value.clone() for name, value in other.base.named_buffers()}
    cifrun.fit(other, groups(400, 2).float() + 1, steps=1, valid=0.2, progress=False)
    assert all(torch.equal(before[name], value) for name, value in other.base.named_buffers()), "it is fitted once"


def test_mixed_precision_leaves_it_as_it_is() -> None:
    base, z = fitted(2).float(), groups(50, 2).float()
    expected = base.log_prob(z)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(base.log_prob(z), expected)


def test_two_processes_begin_with_the_same_mixture(tmp_path: Path) -> None:
    words = [*QUICK, "flow=maf", "base=mixture", "base.components=4", "dataset.num_train=300", "trainer.max_steps=2"]
    one = train(configure([*words, "trainer.batch_size=100"]), tmp_path / "one")
    command = [*words, "trainer.batch_size=100", "device.count=2", f"hydra.run.dir={tmp_path / 'two'}"]
    done = subprocess.run([sys.executable, "-m", "cifrun", "train", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert two["test"]["log_likelihood"] == pytest.approx(one["test"]["log_likelihood"], abs=1e-3)


def test_draws_that_have_no_derivative_are_refused() -> None:
    with pytest.raises(NotImplementedError, match="use sample"):
        cifrun.Flow("maf", dim=2, base="mixture").rsample(3)


def test_events_too_large_for_its_matrices_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"at most 100 numbers.*base=normal"):
        cifrun.Flow("maf", dim=101, base="mixture")


def test_more_components_than_the_data_bear_are_not_tried() -> None:
    base = GaussianMixture((1,), 64).double()
    base.fit(groups(12, 1), groups(20, 1)[12:], 0)
    assert base.used <= 2


def test_a_column_that_is_the_same_for_all_does_no_harm() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 2))
    base = GaussianMixture((2,), 2).double()
    base.fit(torch.from_numpy(rows * [1, 0]), torch.from_numpy(rows[:50] * [1, 0]), 0)
    assert bool(base.log_prob(torch.from_numpy(rows * [1, 0])).isfinite().all())
