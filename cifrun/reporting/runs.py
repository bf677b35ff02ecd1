"""A run as a report sees it: what was trained, what came of it, and how far it got."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..config.fields import Role
from ..config.roles import role_of
from ..errors import ConfigError, RunError
from ..runs.directory import DONE, RunDirectory
from ..runs.lock import busy
from ..runs.metrics import estimate
from ..runs.validation import KINDS

#: Seconds without a change after which a run is taken for dead if no lock tells, as of an older version.
LONG = 3600.0


@dataclass(frozen=True)
class Run:
    """A run directory, as far as it got."""

    path: Path
    settings: Mapping[str, Any]  # of config.yaml, by dotted name
    summary: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Run:
        """The run of a directory.

        Raises:
            RunError: A file can't be read, which the sentence names.
        """
        directory = RunDirectory(path, writes=False)
        return cls(path, directory.settings(), directory.summary())

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        return RunDirectory(self.path, writes=False).metrics()

    @property
    def seed(self) -> Any:
        """The seed of training."""
        return self.settings.get("seed")

    @property
    def repetition(self) -> tuple[tuple[str, Any], ...]:
        """Which repetition of its settings it is: its seeds, each with its name."""
        seeds = [name for name in self.settings if role_of(name, self.settings) is Role.REPETITION]
        return tuple((name, str(self.settings[name])) for name in sorted(seeds))

    @property
    def data(self) -> tuple[tuple[str, Any], ...]:
        """What its data are: runs that differ in this can't be compared. Of a user's file, its fingerprint too."""
        names = [name for name in self.settings if role_of(name, self.settings) is Role.DATA]
        told = tuple((name, str(self.settings[name])) for name in sorted(names))
        return *told, ("data_fingerprint", self.summary.get("data_fingerprint"))

    @property
    def dataset(self) -> str:
        """What to call its data: the dataset's name, or the name of the user's file without its ending."""
        path = self.settings.get("dataset.path")
        return Path(str(path)).stem if path else str(self.settings.get("dataset.name"))

    @property
    def status(self) -> str:
        """As in summary.json, or "begun" where there is none yet."""
        return str(self.summary.get("status", "begun"))

    @property
    def test(self) -> Mapping[str, Any]:
        """The test result; empty if there is none."""
        test = self.summary.get("test")
        return test if isinstance(test, dict) else {}

    @property
    def completed(self) -> bool:
        """Whether it has a test result."""
        return self.status in DONE and number(self.test.get("log_likelihood")) is not None

    @property
    def settled(self) -> bool:
        """Whether nothing more will come of it: complete or failed."""
        return self.status in (*DONE, "failed")

    @property
    def busy(self) -> bool | None:
        """Whether a process is at work in it now; None if that can't be told."""
        return busy(self.path)

    @property
    def silent(self) -> bool:
        """Whether nothing in it has changed for `LONG`; a clock that is wrong by more is no sign of life."""
        return abs(time.time() - RunDirectory(self.path, writes=False).last_changed()) > LONG

    @property
    def under_way(self) -> bool:
        """Whether more may come of it: it is not settled, and a process is at work in it, or, where that can't be told,
        something has changed of late.
        """
        if self.settled:
            return False
        busy = self.busy
        return not self.silent if busy is None else busy

    @property
    def estimate(self) -> str:
        """What the log-likelihood is: exact, an estimate IWAE_m, or one with an unbiased log-determinant."""
        return estimate(self.test.get("exact"), self.settings.get("cif"), self.test.get("importance_samples", "?"))

    def progress(self) -> str:
        """`running, or killed, step 300 of 1000, last wrote 2 min ago`."""
        step = self.metrics[-1]["step"] if self.metrics else 0
        written = RunDirectory(self.path).last_written()
        of = self.settings.get("trainer.max_steps", "?")
        running = {True: "running", False: "killed", None: "running, or killed"}
        state = running[self.busy] if self.status == "running" else self.status
        last = "" if written is None else f", last wrote {_ago(max(0.0, time.time() - written))}"
        return f"{state}, step {step} of {of}{last}"


def find_runs(directories: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """All runs in and below `directories`, in order of their paths, and a sentence for each that can't be read.

    Raises:
        ConfigError: A directory does not exist.
    """
    paths: dict[Path, Path] = {}  # by where they really are, as they were named
    for directory in directories:
        if not directory.is_dir():
            raise ConfigError(f"there is no directory {directory}")
        for path in RunDirectory.below(directory):
            paths.setdefault(path.resolve(), path.resolve() if directory.is_absolute() else path)
    runs, unreadable = [], []
    for path in paths.values():
        try:
            run = Run.read(path)
            _ = run.metrics  # which is read once, here, so that what is wrong with it is said of this run alone
        except RunError as error:
            unreadable.append(str(error))
        else:
            runs.append(run)
    return runs, unreadable


def number(value: Any) -> float | None:
    """A value of a summary as a finite number; None if it is none."""
    return float(value) if KINDS["a finite number"](value) else None


def _ago(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 5400 else f"{seconds / 3600:.0f} h ago"
