"""Sweeps that have a name: whatever kills them, the same command does what is left, and nothing twice."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from cifrun.cli.main import main
from cifrun.cli.sweep import take_part
from cifrun.config.schema import Config
from cifrun.errors import RunError
from cifrun.reporting.report import Report
from cifrun.reporting.runs import find_runs
from cifrun.runs.directory import RunDirectory
from cifrun.runs.lock import LOCK
from cifrun.training import loop
from tests.cli.helpers import signalled_main, statuses, write_run
from tests.forks import Forked
from tests.helpers import JOB, assert_same_run

pytestmark = pytest.mark.usefixtures("without_pictures")


def test_of_two_processes_at_a_sweep_one_is_killed_and_the_other_does_what_it_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "-m", *JOB.split(), "sweep.name=s", "seed=1,2"]
    sweep, at_it = tmp_path / "multirun/s", tmp_path / "at it"
    # The other process is killed in the midst of the first job, as soon as the second one is complete.
    other = Forked(signalled_main, signal.SIGKILL, at_it, sweep, words)
    try:
        while not at_it.exists():
            assert other.exitcode is None, other.wait()
            time.sleep(0.02)
        assert main(words) == 0
        assert other.wait()[0] == -signal.SIGKILL
    finally:
        other.kill()
    assert statuses(sweep) == ["completed", "completed"]
    done = re.findall(r"^run directory: (.+)$", capsys.readouterr().out, flags=re.MULTILINE)
    assert [RunDirectory(Path(run)).config().seed for run in done] == [2, 1]
    loop.train(RunDirectory(Path(done[1])).config(), tmp_path / "never stopped")
    assert_same_run(Path(done[1]), tmp_path / "never stopped")

    capsys.readouterr()
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out == "" and err.count(" is complete\n") == 2
    assert main(["report", str(sweep)]) == 0
    assert re.search(r"CIF of affine +2 ", capsys.readouterr().out)


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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a job that is complete."""
    directory = tmp_path_factory.mktemp("trained")
    summary = take_part(config_of(), directory, wait=False)
    assert summary is not None and (summary["status"], summary["steps"]) == ("completed", 2)
    return directory


@pytest.fixture
def job(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "job"))


def set_status(job: Path, status: str) -> None:
    summary = json.loads((job / "summary.json").read_text())
    (job / "summary.json").write_text(json.dumps({**summary, "status": status}))


def test_a_job_is_extended_but_never_changed(job: Path) -> None:
    more = take_part(config_of(steps=4), job, wait=False)
    assert more is not None and more["steps"] == 4
    with pytest.raises(RunError, match=r"holds a run of another optimizer\.lr"):
        take_part(config_of(lr=0.1), job, wait=False)


@pytest.mark.parametrize("status", ["completed", "stopped_early"])
def test_a_job_that_is_complete_or_whose_patience_ran_out_is_left_alone(
    status: str, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_status(job, status)
    before = {file: file.stat().st_mtime_ns for file in job.rglob("*") if file.is_file()}
    steps = 2 if status == "completed" else 200
    summary = take_part(config_of(steps=steps), job, wait=False)
    assert summary is not None and summary["status"] == status
    assert "is complete" in capsys.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert len(Report(*find_runs([job])).groups) == 1


def test_a_job_that_failed_is_not_begun_again(job: Path) -> None:
    set_status(job, "failed")
    with pytest.raises(RunError, match=r"failed before, at step 2: resume=.* goes on, or remove it"):
        take_part(config_of(), job, wait=False)


def test_a_job_that_somebody_is_at_is_left_to_them(job: Path) -> None:
    with FileLock(job / LOCK):
        assert take_part(config_of(steps=4), job, wait=False) is None


def test_a_longer_sweep_finds_its_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int, bool]] = []

    def train(config: Config, directory: Path, resume: bool = False) -> dict[str, Any]:
        made.append((directory.name, config.trainer.max_steps, resume))
        write_run(config, directory)
        (directory / "checkpoints").mkdir(exist_ok=True)
        (directory / "checkpoints/latest.safetensors").touch()
        return {}

    monkeypatch.setattr("cifrun.training.loop.train", train)
    words = ["train", "-m", "flow=affine", "sweep.name=s", "seed=1,2"]
    for steps in (2, 4):
        assert main([*words, f"trainer.max_steps={steps}"]) == 0
    names = [f"flow=affine--seed={seed}" for seed in (1, 2)]
    assert made == [(name, steps, steps == 4) for steps in (2, 4) for name in names]
    made.clear()
    assert main(["train", "-m", "sweep.name=s", "trainer.max_steps=2,3"]) == 0
    # What is swept is part of the name.
    assert made == [("trainer.max_steps=2", 2, False), ("trainer.max_steps=3", 3, False)]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["sweep.name=s"], "add -m"), (["-m", "sweep.name=a/b", "seed=1"], "sweep.name = 'a/b' is not allowed")],
)
def test_mistakes_get_a_sentence(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
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
