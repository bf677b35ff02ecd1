"""Runs on a cluster: told that their time is up, they save, are queued again, and end as if nothing had happened.

SLURM itself is not here: in its place stands a `scontrol` that writes down what it was asked, and the environment of a
SLURM job. The signals and the processes are real.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cifrun.cluster import hand_on, requeued
from cifrun.errors import RunError
from tests.helpers import JOB, assert_same_run

LONG = [*JOB.split(), "trainer.max_steps=500", "trainer.checkpoint_every=1000"]


@pytest.fixture
def scontrol(tmp_path: Path) -> Path:
    """What a stand-in for scontrol was asked; it is the first on the path of the environment that `slurm` makes."""
    program = tmp_path / "bin/scontrol"
    program.parent.mkdir()
    asked = tmp_path / "asked"
    program.write_text(f'#!/bin/sh\necho "$@" >> "{asked}"\n')
    program.chmod(0o755)
    return asked


def slurm(asked: Path, **more: str) -> dict[str, str]:
    """The environment of a process in SLURM job 17."""
    path = f"{asked.parent / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "SLURM_JOB_ID": "17", "SLURM_PROCID": "0", **more}


def train(home: Path, environment: dict[str, str], *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cifrun", "train", *LONG, *words]
    return subprocess.Popen(command, cwd=home, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def rows(home: Path) -> int:
    return sum(len(file.read_text().splitlines()) for file in home.glob("**/metrics.jsonl"))


@pytest.fixture(scope="module")
def never(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    home = tmp_path_factory.mktemp("never")
    assert train(home, {**os.environ, "OMP_NUM_THREADS": "1"}, "hydra.run.dir=run").wait(timeout=200) == 0
    return home / "run"


@pytest.mark.parametrize("words", [["hydra.run.dir=run"], ["-m", "sweep.name=s", "seed=0,1"]])
def test_a_job_whose_time_is_up_is_queued_again_and_ends_as_one_that_never_stopped(
    words: list[str], never: Path, tmp_path: Path, scontrol: Path
) -> None:
    process = train(tmp_path, slurm(scontrol), *words)
    wait_for(lambda: rows(tmp_path) > 5, process)
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130 and "Traceback" not in err
    assert "all is saved" in err and "SLURM job 17 is queued again" in err
    assert scontrol.read_text() == "requeue 17\n"
    (file,) = tmp_path.glob("**/summary.json")
    stopped = json.loads(file.read_text())
    assert stopped["status"] == "interrupted" and 0 < stopped["steps"] < 500

    process = train(tmp_path, slurm(scontrol, SLURM_RESTART_COUNT="1"), *words)
    assert process.wait(timeout=200) == 0
    assert_same_run(file.parent, never)
    ends = [json.loads(file.read_text())["status"] for file in tmp_path.glob("**/summary.json")]
    assert ends == ["completed"] * (2 if "-m" in words else 1)


def test_a_job_that_would_begin_anew_is_not_queued_again(tmp_path: Path, scontrol: Path) -> None:
    process = train(tmp_path, slurm(scontrol))
    wait_for(lambda: rows(tmp_path) > 2, process)
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130 and "all is saved" in err
    assert "is not queued again" in err and "hydra.run.dir=DIR" in err
    assert not scontrol.exists()


@pytest.mark.parametrize(("rank", "asked"), [("0", "requeue 17\n"), ("1", None)])
def test_outside_the_loop_a_job_is_queued_again_at_once_and_once(
    rank: str, asked: str | None, scontrol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PATH", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, slurm(scontrol)[name])
    monkeypatch.setenv("SLURM_PROCID", rank)
    with pytest.raises(KeyboardInterrupt), requeued(again=True):
        signal.raise_signal(signal.SIGUSR1)
    assert (scontrol.read_text() if scontrol.exists() else None) == asked
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_a_refusal_of_the_queue_is_told(
    scontrol: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (scontrol.parent / "bin/scontrol").write_text("#!/bin/sh\nexit 1\n")
    for name in ("PATH", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, slurm(scontrol)[name])
    with pytest.raises(KeyboardInterrupt), requeued(again=True):
        signal.raise_signal(signal.SIGUSR1)
    assert "SLURM job 17 could not be queued again" in capsys.readouterr().err


def test_a_handler_of_somebody_else_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        with requeued(again=True):
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]


def test_who_refuses_to_queue_a_job_again_is_quoted() -> None:
    def refuse(number: int, frame: object) -> None:
        raise RuntimeError("timed out too many times")

    with pytest.raises(RunError, match="timed out too many times"):
        hand_on(signal.SIGUSR2, refuse)
    for handler in (signal.SIG_DFL, signal.SIG_IGN, None, signal.default_int_handler):
        hand_on(signal.SIGINT, handler)
