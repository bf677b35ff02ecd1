"""Runs on a cluster: told that their time is up, they save, are queued again, and end as if nothing had happened.

SLURM itself is not here: in its place stands a `scontrol` that writes down what it was asked, and the environment of a
SLURM job. The signals and the processes are real.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from cifrun.cli.main import main
from cifrun.compute.slurm import hand_on, requeued
from cifrun.errors import RunError
from tests.forks import Forked
from tests.helpers import JOB, after_steps, assert_same_run

pytestmark = pytest.mark.usefixtures("without_pictures")

RUN = [*JOB.split(), "trainer.checkpoint_every=1000"]


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a stand-in for scontrol was asked, in an environment as that of SLURM job 17."""
    program = tmp_path / "bin/scontrol"
    program.parent.mkdir()
    asked = tmp_path / "asked"
    program.write_text(f'#!/bin/sh\necho "$@" >> "{asked}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.chdir(tmp_path)
    return asked


@pytest.fixture(scope="module")
def never(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is never stopped."""
    run = tmp_path_factory.mktemp("never") / "run"
    assert main(["train", *RUN, f"hydra.run.dir={run}"]) == 0
    return run


def time_is_up() -> None:
    """SLURM's signal."""
    signal.raise_signal(signal.SIGUSR1)


def signalled_main(words: list[str]) -> int:
    """A command whose time is up after 120 steps."""
    with after_steps(120, time_is_up):
        return main(words)


def test_a_process_whose_time_is_up_is_queued_again_and_ends_as_one_that_never_stopped(
    never: Path, tmp_path: Path, scontrol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = Forked(signalled_main, ["train", *RUN, "hydra.run.dir=run"]).wait()
    assert code == 130 and "Traceback" not in err, err
    assert "all is saved" in err and "SLURM job 17 is queued again" in err
    assert scontrol.read_text() == "requeue 17\n"
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["status"] == "interrupted" and summary["steps"] == 120

    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert main(["train", *RUN, "hydra.run.dir=run"]) == 0
    assert_same_run(tmp_path / "run", never)


def test_of_a_sweep_the_job_that_was_stopped_goes_on_and_the_others_follow(
    never: Path, tmp_path: Path, scontrol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", "-m", *RUN, "sweep.name=s", "seed=0,1"]
    with after_steps(120, time_is_up):
        assert main(words) == 130
    assert scontrol.read_text() == "requeue 17\n"
    (file,) = tmp_path.glob("multirun/**/summary.json")
    assert json.loads(file.read_text())["steps"] == 120
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert main(words) == 0
    ends = [json.loads(file.read_text())["status"] for file in tmp_path.glob("multirun/**/summary.json")]
    assert ends == ["completed", "completed"]
    assert_same_run(file.parent, never)


def test_a_signal_at_the_last_step_is_not_forgotten(
    never: Path, tmp_path: Path, scontrol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with after_steps(150, time_is_up):
        assert main(["train", *RUN, "hydra.run.dir=run"]) == 130
    assert scontrol.read_text() == "requeue 17\n"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert main(["train", *RUN, "hydra.run.dir=run"]) == 0
    assert_same_run(tmp_path / "run", never)


def test_a_run_that_would_begin_anew_is_not_queued_again(scontrol: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with after_steps(10, time_is_up):
        assert main(["train", *RUN]) == 130
    err = capsys.readouterr().err
    assert "all is saved" in err and "is not queued again" in err and "hydra.run.dir=DIR" in err
    assert not scontrol.exists()


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({}, "requeue 17\n"),
        ({"SLURM_PROCID": "1"}, None),  # the first process of the job does it
        ({"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3"}, "requeue 17_3\n"),  # and 17 would be all elements
    ],
)
def test_outside_the_loop_a_job_is_queued_again_at_once_and_once(
    variables: dict[str, str], asked: str | None, scontrol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(KeyboardInterrupt), requeued(again=True):
        signal.raise_signal(signal.SIGUSR1)
    assert (scontrol.read_text() if scontrol.exists() else None) == asked
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_a_refusal_of_the_queue_is_told(scontrol: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scontrol.parent / "bin/scontrol").write_text("#!/bin/sh\nexit 1\n")
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
