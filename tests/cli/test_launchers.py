"""Sweeps on engines. Each runs two jobs elsewhere: of one nothing can be made, the other loses its process.

The job of which nothing can be made is reported, and the other ends as one that was never stopped. In place of SLURM
stand four shell scripts, which start the elements of an array here and start again what is queued again.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from cifrun.cli import launchers
from cifrun.cli.main import main
from cifrun.config.schema import Config
from cifrun.errors import ConfigError
from cifrun.training.loop import train
from tests.cli.helpers import ROOT, signalled, statuses
from tests.forks import Forked
from tests.helpers import JOB, assert_same_run, without_pictures

JOBS = ["train", "-m", *JOB.split(), "optimizer.lr=-1,0.001"]
EXTRAS = {"joblib": "joblib", "submitit_local": "submitit", "slurm": "submitit", "ray": "ray"}

SLURM = {
    "sbatch": """
        script=$(cat "$1")  # the file is moved as soon as it is submitted
        for element in $(seq 0 $(echo "$script" | sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p')); do
            export SLURM_JOB_ID=17 SLURM_ARRAY_JOB_ID=17 SLURM_ARRAY_TASK_ID=$element
            (
                sh -c "$script"
                while rm "$QUEUE/again_17_$element"; do SLURM_RESTART_COUNT=1 sh -c "$script"; done
                touch "$QUEUE/ended_17_$element"
            ) > "$QUEUE/$element.log" 2>&1 &
        done
        echo Submitted batch job 17""",
    "srun": """
        while [ "${1#--}" != "$1" ]; do
            case $1 in --output | --error) shift ;; esac
            shift
        done
        export SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1 SLURM_STEP_NUM_NODES=1 SLURM_NTASKS=1
        exec "$@" """,
    "scontrol": """
        touch "$QUEUE/again_$2" """,
    "sacct": """
        echo 'JobID|State|NodeList'
        cd "$QUEUE" && for file in ended_*; do echo "${file#ended_}|COMPLETED|here"; done""",
}

#: In place of Python for submitit: a task is forked by this process, which is asked through a directory; all else is
#: Python.
PYTHON = """#!/bin/sh
case "$*" in "-u -m submitit.core._submit "*) ;; *) exec {python} "$@" ;; esac
task="$QUEUE/task_$$"
mkdir "$task"
env -0 > "$task/environment"
echo "$4" > "$task/folder.part"
mv "$task/folder.part" "$task/folder"
while [ ! -e "$task/code" ]; do sleep 0.05; done
cat "$task/out"
cat "$task/err" >&2
exit "$(cat "$task/code")"
"""


def do_task(folder: str) -> None:
    """What `python -m submitit.core._submit` does."""
    from submitit.core.submission import submitit_main

    sys.argv = ["_submit", folder]
    submitit_main()


def fork_tasks(queue: Path, ended: Event) -> None:
    """Start the tasks that are asked for, and say how they end."""
    running: dict[Path, Forked] = {}
    while not ended.wait(0.02):
        for file in queue.glob("task_*/folder"):
            if file.parent not in running and not (file.parent / "code").exists():
                pairs = (line.partition("=") for line in (file.parent / "environment").read_text().split("\0")[:-1])
                environment = {name: value for name, _, value in pairs}
                running[file.parent] = Forked(do_task, file.read_text().strip(), environment=environment)
        for task, process in list(running.items()):
            if process.exitcode is not None:
                code, *said = process.wait()
                for name, text in zip(("out", "err"), said, strict=True):
                    (task / name).write_text(text)
                (task / "code.part").write_text(str(code % 256))
                (task / "code.part").rename(task / "code")
                del running[task]
    for process in running.values():
        process.kill()


@pytest.fixture
def forked_tasks(workers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tasks of submitit need not import anew what they need."""
    queue, ended = tmp_path / ".bin", Event()
    (queue / "python").write_text(PYTHON.format(python=sys.executable))
    (queue / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(queue / "python"))
    thread = Thread(target=fork_tasks, args=(queue, ended))
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.fixture(autouse=True)
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the processes of an engine find in their environment."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    programs = tmp_path / ".bin"
    programs.mkdir()
    for name, text in SLURM.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("QUEUE", str(programs))


@pytest.fixture
def joblib_ends() -> Iterator[None]:
    """Processes that joblib keeps for the next sweep end with the test."""
    yield
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)


@pytest.fixture(scope="module")
def never(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the job that can be done, never stopped."""
    from cifrun.cli.hydra_app import configure

    directory = tmp_path_factory.mktemp("never")
    config: Config = configure([*JOB.split(), "optimizer.lr=0.001"])
    with without_pictures():
        train(config, directory)
    return directory


def assert_done(home: Path, never: Path, log: str) -> None:
    """Both jobs have ended as they should, and the log says no more than it should."""
    assert log.count("optimizer.lr = -1 is not allowed") == 1 and "Traceback" not in log, log
    assert statuses(home) == ["completed"], log
    (summary,) = home.glob("multirun/**/summary.json")
    assert_same_run(summary.parent, never)


@pytest.mark.parametrize(
    ("engine", "number"),
    [("submitit_local", signal.SIGUSR2), ("slurm", signal.SIGUSR2), ("ray", signal.SIGTERM)],
)
def test_a_job_that_is_preempted_goes_on_and_ends_as_one_never_stopped(
    engine: str,
    number: signal.Signals,
    never: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    if importlib.util.find_spec(EXTRAS[engine]) is None:
        pytest.skip(f"{EXTRAS[engine]} is not installed")
    if EXTRAS[engine] == "submitit":
        request.getfixturevalue("forked_tasks")
    with signalled(number, tmp_path / "signalled"):
        assert main([*JOBS, f"hydra/launcher={engine}"]) == 2
    assert (tmp_path / "signalled").exists()
    assert_done(tmp_path, never, capfd.readouterr().err)


def test_joblib_ends_with_a_process_and_the_same_command_does_the_rest(
    never: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], joblib_ends: None
) -> None:
    pytest.importorskip("joblib")
    words = [*JOBS, "sweep.name=s", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    with signalled(signal.SIGKILL, tmp_path / "signalled"):
        assert main(words) == 2
        log = capfd.readouterr().err
        assert "Traceback" not in log and "joblib gave up the sweep: A worker process" in log
        assert statuses(tmp_path) == ["running"]
        assert main(words) == 2
    assert_done(tmp_path, never, capfd.readouterr().err)


@pytest.mark.parametrize("engine", EXTRAS)
def test_an_engine_that_is_not_installed_is_named_with_its_extra(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(module: str, what_for: str, install: str) -> None:
        raise ConfigError(f"{what_for} needs {install}")

    monkeypatch.setattr(launchers, "need", absent)
    assert main(["train", "-m", f"hydra/launcher={engine}", "seed=1,2"]) == 2
    assert capsys.readouterr().err == f"cifrun: this hydra/launcher needs cifrun[{EXTRAS[engine]}]\n"
    assert [path.name for path in tmp_path.iterdir()] == [".bin"]
