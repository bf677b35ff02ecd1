"""Sweeps that have a name: whatever kills them, the same command does what is left, and nothing twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cifrun.cli.main import main
from cifrun.cli.sweep import take_part
from cifrun.config.schema import Config
from cifrun.errors import RunError
from cifrun.reporting.report import Report
from cifrun.reporting.runs import find_runs
from cifrun.runs.directory import RunDirectory
from cifrun.training.loop import train
from tests.cli.helpers import ROOT, statuses
from tests.helpers import JOB, assert_same_run


def test_of_two_processes_at_a_sweep_one_is_killed_and_the_other_does_what_it_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "-m", *JOB.split(), "sweep.name=s", "seed=1,2"]
    sweep, at_it = tmp_path / "multirun/s", tmp_path / "at it"
    first, second = (next(iter(sweep.glob(f"*seed={seed}")), sweep / f"seed={seed}") for seed in (1, 2))
    # The other process is killed in the midst of the first job, as soon as the second one is complete.
    script = [sys.executable, "-m", "tests.cli.helpers", str(int(signal.SIGKILL)), str(at_it), str(sweep)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open(tmp_path / "log", "w") as log:
        other = subprocess.Popen([*script, *words], cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        while not at_it.exists():
            assert other.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.02)
        assert main(words) == 0
        assert other.wait() == -signal.SIGKILL
    finally:
        other.kill()
    out, err = capsys.readouterr()
def config_of(steps: int = 2, lr: float = 1e-3) -> Config:
    return Config.parse(
        {
            "dataset": {"name": "two_uniforms", "num_train": 100, "num_valid": 50, "num_test": 50},
            "flow": {"family": "affine", "depth": 1},
            "optimizer": {"lr": lr},
            "trainer": {"max_steps": steps, "batch_size": 50, "progress": False},
            "eval": {"importance_samples": 2},
            "diagnostics": {"enabled": False},
        }
    )


def test_a_job_is_extended_but_never_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = take_part(config_of(), tmp_path, wait=False)
    assert first is not None and first["steps"] == 2
    capsys.readouterr()
    assert take_part(config_of(), tmp_path, wait=False) == first
    assert "is complete" in capsys.readouterr().err
    more = take_part(config_of(steps=4), tmp_path, wait=False)
    assert more is not None and more["steps"] == 4
    with pytest.raises(RunError, match=r"holds a run of another optimizer\.lr"):
        take_part(config_of(lr=0.1), tmp_path, wait=False)


def test_a_job_whose_patience_ran_out_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(steps=200, lr=1e-9)
    config = replace(config, trainer=replace(config.trainer, valid_every=1, patience=2))
    first = take_part(config, tmp_path, wait=False)
    assert first is not None and first["status"] == "stopped_early" and first["steps"] < 200
    capsys.readouterr()
    assert take_part(config, tmp_path, wait=False) == first
    assert "is complete" in capsys.readouterr().err
    assert len(Report(*find_runs([tmp_path])).groups) == 1


def test_a_longer_sweep_extends_its_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*JOB.replace("max_steps=150", "checkpoint_every=1").split(), "sweep.name=s", "seed=1,2"]
    for steps in (2, 4):
        assert main(["train", "-m", *words, f"trainer.max_steps={steps}"]) == 0
        found = [json.loads(f.read_text())["steps"] for f in tmp_path.glob("multirun/s/*/summary.json")]
        assert found == [steps, steps]
    assert main(["train", "-m", *words[:-1], "seed=1", "trainer.max_steps=2,3"]) == 0
    assert len(list(tmp_path.glob("multirun/s/*/summary.json"))) == 4  # what is swept is part of the name


def test_a_job_that_failed_is_not_begun_again(tmp_path: Path) -> None:
    take_part(config_of(), tmp_path, wait=False)
    summary = json.loads((tmp_path / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps({**summary, "status": "failed"}))
    with pytest.raises(RunError, match="failed before, at step 2: remove it"):
        take_part(config_of(), tmp_path, wait=False)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["sweep.name=s"], "add -m"), (["-m", "sweep.name=a/b", "seed=1"], "sweep.name = 'a/b' is not allowed")],
)
def test_mistakes_get_a_sentence(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_search_goes_on_with_its_study(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    import optuna

    search = (
        "hydra/sweeper=optuna hydra.sweeper.direction=maximize hydra.sweeper.n_trials=2 hydra.sweeper.study_name=s "
        "hydra.sweeper.storage=sqlite:///study.db optimizer.lr=tag(log,interval(0.0001,0.1))"
    )
    command = [sys.executable, "-m", "cifrun", "train", "-m", *JOB.replace("=150", "=50").split(), *search.split()]
    for count in (2, 4):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'study.db'}")
        assert len(study.trials) == count
    summaries = [json.loads(file.read_text()) for file in tmp_path.glob("multirun/*/*/*/summary.json")]
    assert study.best_value == max(summary["best_valid_log_likelihood"] for summary in summaries)
