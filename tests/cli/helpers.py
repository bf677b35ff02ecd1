"""What the tests of the command line share: files of runs, and jobs whose process gets a signal at a known step."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from signal import Signals
from unittest.mock import patch

import yaml
from omegaconf import DictConfig

from cifrun.cli import hydra_app
from cifrun.cli.jobs import Job
from cifrun.cli.main import main
from cifrun.config.schema import Config, to_dict
from tests.helpers import after_steps, without_pictures

ROOT = Path(__file__).resolve().parents[2]

#: A verb, its run directory and its config.
Call = tuple[str, Path, Config]

#: Steps of the optimiser after which the signal comes: after some checkpoints, and long before the end.
STEP = 75


def tree(directory: Path) -> list[str]:
    """All that is below a directory."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def write_run(config: Config, directory: Path) -> None:
    """A run directory with nothing but its config."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(to_dict(config)), encoding="utf-8")


def statuses(sweep: Path) -> list[str]:
    """How the runs below a directory ended."""
    return sorted(json.loads(file.read_text())["status"] for file in sweep.glob("**/summary.json"))


class SignalledJob(Job):
    """A job whose process sends itself a signal at `STEP`, once in the whole sweep.

    Nobody has to look for the process, however fast the machine is, and the same step is hit each time. From the first
    step on it draws no pictures: not before, since a job that takes none need not import what trains.

    Arguments:
        verb: As of `Job`.
        number: The signal.
        once: A file that remembers that it was sent.
        after: Wait at that step until another run below this directory is complete.
    """

    def __init__(self, verb: str, number: Signals, once: Path, after: Path | None = None) -> None:
        super().__init__(verb)
        self.number, self.once, self.after = number, once, after

    def __call__(self, composed: DictConfig) -> float | None:
        def send() -> None:
            if not self.once.exists():
                self.once.touch()
                while self.after is not None and not {"completed", "failed"} & set(statuses(self.after)):
                    time.sleep(0.02)
                os.kill(os.getpid(), self.number)

        with ExitStack() as inside:
            inside.enter_context(after_steps(1, lambda: inside.enter_context(without_pictures())))
            inside.enter_context(after_steps(STEP, send))
            return super().__call__(composed)


@contextmanager
def signalled(number: Signals, once: Path, after: Path | None = None) -> Iterator[None]:
    """Inside, the jobs of commands in this process are such jobs, wherever an engine does them."""
    job = partial(SignalledJob, number=number, once=once, after=after)
    with patch.object(hydra_app, "Job", job):
        yield


def signalled_main(number: Signals, once: Path, after: Path, words: list[str]) -> int:
    """A command with such jobs, for a process of its own."""
    with signalled(number, once, after):
        return main(words)
