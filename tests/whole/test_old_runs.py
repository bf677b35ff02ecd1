"""Run directories of an earlier version: they load, evaluate to the same numbers, go on, and are reported.

`tests/old_runs/` was made with the code before the package was divided into rooms, one small run of each kind, without
pictures. `expected.json` has what that code then gave: for `cifrun eval` with five importance samples, and for
`cifrun train resume=DIR trainer.max_steps=6` (3845 of the run that was interrupted). Where gradients and products were
computed otherwise, numbers agree to the rounding of single precision, which a few steps of training enlarge. The two
runs whose log-determinants were estimated in evaluation have the exact numbers of today; the old ones were within 0.005
nats.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cifrun import load
from cifrun.cli.sweep import take_part
from cifrun.config.schema import Config
from cifrun.errors import RunError
from cifrun.evaluation.evaluate import evaluate
from cifrun.reporting.report import report
from cifrun.runs.directory import RunDirectory
from cifrun.training import loop
from tests.helpers import ROOT

pytestmark = pytest.mark.usefixtures("without_pictures")

OLD = ROOT / "tests" / "old_runs"
EXPECTED: dict[str, dict[str, Any]] = json.loads((OLD / "expected.json").read_text())
#: By how much numbers may differ, relative to themselves: evaluated, and after a few steps more.
EVALUATION, TRAINING = 1e-5, 1e-4
EVALUATED = [name for name, what in EXPECTED.items() if "eval" in what]
RESUMED = [name for name, what in EXPECTED.items() if "resumed" in what]


@pytest.fixture(autouse=True)
def _beside_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """One run was trained on heights.csv."""
    monkeypatch.chdir(OLD)


def copied(name: str, folder: Path) -> tuple[Path, Config]:
    """A copy of an old run, and its config without diagnostics."""
    shutil.copytree(OLD / name, folder / name)
    config = RunDirectory(folder / name).config()
    return folder / name, replace(config, diagnostics=replace(config.diagnostics, enabled=False))


@pytest.mark.parametrize("name", EVALUATED)
def test_an_old_run_loads_and_samples(name: str) -> None:
    model = load(OLD / name)
    samples = model.sample(5, seed=0)
    assert samples.shape == (5, *model.shape) and samples.isfinite().all()
    assert model.log_prob(samples, 3).isfinite().all()


@pytest.mark.parametrize("name", EVALUATED)
def test_an_old_run_evaluates_to_the_same_numbers(name: str, tmp_path: Path) -> None:
    directory, config = copied(name, tmp_path)
    expected = EXPECTED[name]["eval"]
    settings = replace(config.eval, importance_samples=expected["importance_samples"])
    result = evaluate(directory, replace(config, eval=settings))
    assert {key: result[key] for key in expected} == pytest.approx(expected, rel=EVALUATION)
    assert RunDirectory(directory).summary()["test"]["log_likelihood"] == result["log_likelihood"]


@pytest.mark.parametrize("name", RESUMED)
def test_an_old_run_goes_on_as_it_would_have(name: str, tmp_path: Path) -> None:
    directory, config = copied(name, tmp_path)
    expected = EXPECTED[name]["resumed"]
    trainer = replace(config.trainer, max_steps=expected["steps"], progress=False)
    summary = loop.train(replace(config, trainer=trainer), directory, resume=True)
    assert summary["status"] == "completed" and summary["steps"] == expected["steps"]
    assert summary["test"]["log_likelihood"] == pytest.approx(expected["log_likelihood"], rel=TRAINING)


def test_a_run_keeps_its_first_step_whatever_todays_default_is(tmp_path: Path) -> None:
    """A run from before `dataset.standardize` was there has no such step, and today's default would bring one."""
    directory, _ = copied("maf_plain", tmp_path)
    file = directory / "config.yaml"
    rows = file.read_text().splitlines(keepends=True)
    file.write_text("".join(row for row in rows if "standardize" not in row))
    config = RunDirectory(directory).config()
    assert config.dataset.standardize is True
    trainer = replace(config.trainer, max_steps=EXPECTED["maf_plain"]["resumed"]["steps"], progress=False)
    summary = loop.train(replace(config, trainer=trainer), directory, resume=True)
    assert summary["test"]["log_likelihood"] == pytest.approx(
        EXPECTED["maf_plain"]["resumed"]["log_likelihood"], rel=TRAINING
    )


def test_a_job_of_an_old_sweep_is_known_to_be_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (name, *_) = sorted(path.name for path in (OLD / "sweep").iterdir())
    directory, _ = copied(f"sweep/{name}", tmp_path)
    summary = take_part(RunDirectory(directory).config(), directory, wait=False)
    assert summary is not None and summary["status"] == "completed" and "is complete" in capsys.readouterr().err


def test_a_run_that_was_killed_before_its_first_checkpoint_is_a_sentence() -> None:
    with pytest.raises(RunError, match="has no checkpoint 'latest'"):
        load(OLD / "killed_early")


def test_old_runs_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report([OLD], tmp_path)
    text = capsys.readouterr().out
    for name in ("failed: failed, step 4 of 40", "interrupted: interrupted, step", "killed_early: begun"):
        assert name in text
    table = (tmp_path / "report.csv").read_text()
    for name in EVALUATED:
        summary = json.loads((OLD / name / "summary.json").read_text())
        assert (
            summary["status"] not in ("completed", "stopped_early") or str(summary["test"]["log_likelihood"]) in table
        )


def test_every_old_checkpoint_fits_its_model() -> None:
    for file in OLD.rglob("latest.safetensors"):
        model = load(file.parents[1])
        assert all(parameter.isfinite().all() for parameter in model.parameters()), file
    assert torch.is_grad_enabled()
