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
from cifrun.reporting.report import Report, find_runs
from tests.helpers import JOB


def start(home: Path, *words: str) -> subprocess.Popen[str]:
    """`cifrun train -m … sweep.name=s` in a process of its own, which writes to a file."""
    command = [sys.executable, "-m", "cifrun", "train", "-m", *JOB.split(), "sweep.name=s", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "300"}
    log = open(home / f"log{len(list(home.glob('log*')))}", "w")  # noqa: SIM115
    return subprocess.Popen(command, cwd=home, stdout=log, stderr=log, env=environment, start_new_session=True)


def completed(home: Path) -> int:
    files = (home / "multirun/s").glob("*/summary.json")
    return sum(json.loads(file.read_text())["status"] == "completed" for file in files)


def until(process: subprocess.Popen[str], home: Path, count: int) -> None:
    """Let it go on until so many jobs are complete."""
    deadline = time.monotonic() + 120
    while completed(home) < count:
        assert process.poll() is None and time.monotonic() < deadline, (home / "log0").read_text()
        time.sleep(0.05)


def ends(home: Path) -> list[str]:
    """The run directories that were trained to their end, as often as that happened."""
    text = "".join(log.read_text() for log in sorted(home.glob("log*")))
    return re.findall(r"^run directory: .*/(.+)$", text, flags=re.MULTILINE)


def test_a_sweep_that_is_killed_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["seed=1,2,3,4,5,6", "cif=true,false"]
    for count in (3, 7):
        process = start(tmp_path, *words)
        until(process, tmp_path, count)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert completed(tmp_path) < 12
    assert start(tmp_path, *words).wait(timeout=120) == 0
    assert completed(tmp_path) == 12
    # A kill may fall between the last write of a job and its last word, so not each of the twelve has one.
    assert len(ends(tmp_path)) == len(set(ends(tmp_path))) >= 10
    assert (tmp_path / "log2").read_text().count(" is complete\n") >= 7
    assert main(["report", str(tmp_path / "multirun/s")]) == 0
    table = capsys.readouterr().out
    assert re.search(r"affine plain +6 ", table) and re.search(r"affine CIF +6 ", table)
    assert "not in the table" not in table


def test_two_workers_at_one_sweep(tmp_path: Path) -> None:
    workers = [start(tmp_path, "seed=1,2,3,4") for _ in range(2)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    assert completed(tmp_path) == 4
    assert len(ends(tmp_path)) == len(set(ends(tmp_path))) == 4


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
