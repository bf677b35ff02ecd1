"""Sweeps on engines: each is started here, runs four jobs in processes of its own, and loses one of those processes.

Of a fifth job nothing can be made; it is reported, and the others go on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cifrun.cli.main import main
from cifrun.runs.directory import RunDirectory
from cifrun.training.loop import train
from tests.helpers import JOB, assert_same_run

JOBS = [*JOB.split(), "trainer.max_steps=300", "trainer.checkpoint_every=50", "optimizer.lr=-1,0.001,0.002,0.003,0.004"]
ENGINES = {"joblib": "joblib", "submitit_local": "submitit", "slurm": "submitit", "ray": "ray"}

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="finds processes by the files they write")


def sweep(home: Path, engine: str, *words: str) -> subprocess.Popen[str]:
    """A sweep of five jobs in a process of its own, which writes to a file."""
    command = [sys.executable, "-m", "cifrun", "train", "-m", *JOBS, f"hydra/launcher={engine}", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log = open(home / "log", "w")  # noqa: SIM115
    return subprocess.Popen(command, cwd=home, stdout=log, stderr=log, env=environment)


def workers(home: Path) -> dict[Path, int]:
    """The process that writes to each run directory below `home` now."""
    found = {}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            file = Path(os.readlink(link))
        except OSError:  # it ended, or is somebody else's
            continue
        if file.name == "metrics.jsonl" and home in file.parents and len(file.read_text().splitlines()) > 2:
            found[file.parent] = int(link.parts[2])
    return found


def interrupt_one(home: Path, process: subprocess.Popen[str], number: signal.Signals) -> Path:
    """Send a signal to a process that is at a job, and return the job's directory."""
    deadline = time.monotonic() + 200
    while not (found := workers(home)):
        assert process.poll() is None and time.monotonic() < deadline, (home / "log").read_text()
        time.sleep(0.05)
    directory, pid = found.popitem()
    os.kill(pid, number)
    return directory


def statuses(home: Path) -> list[str]:
    return sorted(json.loads(file.read_text())["status"] for file in home.glob("multirun/**/summary.json"))


def assert_as_one_never_stopped(directory: Path, twin: Path) -> None:
    """The run is bit for bit what its config trains here at once."""
    train(RunDirectory(directory).config(), twin)
    assert_same_run(directory, twin)


@pytest.mark.parametrize(("engine", "number"), [("submitit_local", signal.SIGUSR2), ("ray", signal.SIGTERM)])
def test_a_job_that_is_preempted_goes_on_and_ends_as_one_never_stopped(
    engine: str, number: signal.Signals, tmp_path: Path
) -> None:
    pytest.importorskip(ENGINES[engine])
    process = sweep(tmp_path, engine)
    hit = interrupt_one(tmp_path, process, number)
    assert process.wait(timeout=400) == 2
    log = (tmp_path / "log").read_text()
    assert log.count("optimizer.lr = -1 is not allowed") == 1 and "Traceback" not in log
    assert statuses(tmp_path) == ["completed"] * 4, log
    assert_as_one_never_stopped(hit, tmp_path / "twin")


def test_joblib_ends_with_a_process_and_the_same_command_does_the_rest(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    words = ["sweep.name=s", "hydra.launcher.n_jobs=2"]
    process = sweep(tmp_path, "joblib", *words)
    hit = interrupt_one(tmp_path, process, signal.SIGKILL)
    assert process.wait(timeout=400) == 2
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log and "joblib gave up the sweep: A worker process" in log
    assert sweep(tmp_path, "joblib", *words).wait(timeout=400) == 2
    log = (tmp_path / "log").read_text()
    assert log.count("optimizer.lr = -1 is not allowed") == 1 and "Traceback" not in log
    assert statuses(tmp_path) == ["completed"] * 4, log
    assert_as_one_never_stopped(hit, tmp_path / "twin")


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_is_not_installed_is_named_with_its_extra(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("hydra_joblib_launcher.joblib_launcher", "hydra_submitit_launcher.submitit_launcher"):
        monkeypatch.setitem(sys.modules, f"hydra_plugins.{module}", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["train", "-m", f"hydra/launcher={engine}", "seed=1,2"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"pip install 'cifrun[{ENGINES[engine]}]'" in err
    assert list(tmp_path.iterdir()) == []
