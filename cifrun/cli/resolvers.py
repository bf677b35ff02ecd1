"""What conf/ can compute, `${cifrun.NAME:…}`, and the directories that are reserved on the way.

new_dir   a directory for one job alone            sweep, job   those of a multirun and of its jobs
inside    a path that leads nowhere else
if, case  one of several values
by_rows   one that depends on how many training data there are
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..config.checking import check
from ..config.schema import SWEEP_NAME
from ..errors import ConfigError, RunError
from ..registry import DATASETS

__all__ = ["Directories", "directories", "job_name"]

#: Longest path in which a job's overrides are spelt out; TensorBoard and file systems add their own names to it.
LONGEST_PATH = 200
#: Keys that name a directory, and the folder that it is in.
PLACES = {"hydra.run.dir": "", "hydra.sweep.dir": "", "sweep.name": "multirun"}
#: Longest name of a job in a sweep that has a name; it must not depend on where the sweep lies.
LONGEST_NAME = 120


class Directories:
    """The directories that this process has reserved for its jobs.

    A process has one, `directories`. Inside `command` it knows that it was given the command itself; in a process that
    an engine started for a job it is new, and knows of no command.
    """

    def __init__(self) -> None:
        self._reserved: list[list[Path]] = []  # each with the parents that were made for it
        self._dry = False
        self._commander = 0
        self.sweep: Path | None = None  # where the jobs of a multirun go

    @contextmanager
    def command(self, dry: bool) -> Iterator[None]:
        """Inside, this process does a command; in the end, directories into which no job wrote are gone.

        Arguments:
            dry: Make no directory, as the command only prints a config or completes a word.
        """
        self._commander, self._dry, self.sweep = os.getpid(), dry, None
        try:
            yield
        finally:
            self._commander, self._dry = 0, False
            self.release()

    def elsewhere(self) -> bool:
        """Whether this is not the process that was given the command, but one that an engine started, and may again."""
        return os.getpid() != self._commander

    def reserve(self, directory: Path) -> Path:
        """Make a directory that nobody else has: `directory`, or the first free of `directory`-1, -2, …"""
        if self._dry:
            return directory
        candidate, k = directory, 0
        # Once, before the first try: by the second one the parents are there, whoever made them.
        parents = [parent for parent in directory.parents if not parent.exists()]
        while True:
            try:
                candidate.parent.mkdir(parents=True, exist_ok=True)
                candidate.mkdir()
            except FileNotFoundError:  # another process removed an empty parent in between
                if not candidate.parent.exists():
                    raise
            except FileExistsError:
                if not candidate.exists():  # a parent is a file
                    raise
                k += 1
                candidate = directory.with_name(f"{directory.name}-{k}")
            else:
                self._reserved.append([candidate, *parents])
                return candidate

    def expect(self, key: str, value: Any) -> None:
        """Remember what Hydra will make for `key=value`, as typed, so that it is gone in the end if it holds no run."""
        if isinstance(value, str | int) and "$" not in str(value) and key in PLACES:
            directory = Path(PLACES[key], str(value))
            self.sweep = directory if key == "hydra.sweep.dir" else self.sweep
            self._reserved.append([path for path in (directory, *directory.parents) if not path.exists()])

    def release(self) -> None:
        """Remove the reserved directories that hold no run, the innermost first."""
        made = {directory for reserved in self._reserved for directory in reserved}
        self._reserved.clear()
        for directory in sorted(made, key=lambda path: len(path.parts), reverse=True):
            with suppress(OSError):  # it holds a run
                for entry in directory.iterdir():  # what Hydra made for a job that wrote nothing
                    _prune(entry)
                if [entry.name for entry in directory.iterdir()] == ["multirun.yaml"]:
                    (directory / "multirun.yaml").unlink()
                directory.rmdir()


def _prune(folder: Path) -> None:
    """Remove a folder in which there is nothing but such folders."""
    if folder.is_dir() and not folder.is_symlink():
        entries = list(folder.iterdir())
        if all(entry.is_dir() for entry in entries):  # not those of a run
            for entry in entries:
                _prune(entry)
            with suppress(OSError):
                folder.rmdir()


#: Those of this process.
directories = Directories()


# The resolvers are functions of this module, as engines send them to other processes: what they know must stay here.


def _new_dir(path: str) -> str:
    """`${cifrun.new_dir:PATH}`: a directory of that name, or of that name with a number, made for this job alone."""
    try:
        return str(directories.reserve(Path(path)))
    except OSError as error:
        raise RunError(f"the run directory '{path}' can't be made: {error.strerror}") from error


def _sweep_dir(name: str | None, path: str) -> str:
    """`${cifrun.sweep:${sweep.name},PATH}`: the directory of the sweep of that name, or without one a new directory."""
    if name is None:
        directories.sweep = Path(_new_dir(path))
        return str(directories.sweep)
    if not re.fullmatch(SWEEP_NAME, str(name)):
        raise ConfigError(f"sweep.name = '{name}' is not allowed: it should be a name, of letters, digits and . _ -")
    directories.sweep = Path("multirun", str(name))
    return str(directories.sweep)


def job_name(name: str | None, sweep: str, overrides: str) -> str:
    """`${cifrun.job:${sweep.name},SWEEP,OVERRIDES}`: a directory in the sweep's own, named by what is special to it.

    In a sweep that has a name it is the same each time, wherever the sweep lies. Without one it is new, unless an
    engine, which may start the job again on another machine, must find it again.
    """
    slug = re.sub(r"(^|--)\+\+", r"\1", overrides)
    slug = re.sub(r"(\de)\+(\d)", r"\1\2", slug)  # 1e+20, which would become the name of 1e-20
    slug = re.sub(r"=(True|False)\b", lambda match: match[0].lower(), slug)  # as typed, not as Python prints it
    slug = re.sub(r"[^\w=.-]+", "-", re.sub(r"[][{}()'\"]", "", slug)).strip("-") or "job"
    room = LONGEST_NAME if name is not None else max(24, LONGEST_PATH - len(os.path.abspath(sweep)) - 5)
    if len(slug) > room:
        slug = f"{slug[: room - 9]}-{hashlib.sha256(overrides.encode()).hexdigest()[:8]}"
    return slug if name is not None or directories.elsewhere() else Path(_new_dir(str(Path(sweep, slug)))).name


def _inside(path: str) -> str:
    """`${cifrun.inside:PATH}`: the path, which is below where it begins."""
    if os.path.isabs(path) or os.path.normpath(path).split(os.sep)[0] == os.pardir:
        raise ConfigError(f"hydra.sweep.subdir = '{path}' is not allowed: it should be in the directory of all jobs")
    return path


def _if(condition: Any, then: Any, otherwise: Any) -> Any:
    """`${cifrun.if:${cif},A,B}`: A where the condition is true, B where it is false."""
    if not isinstance(condition, bool):
        raise ConfigError(f"'{condition}' is not allowed: it should be true or false, as in cif=true")
    return _node(then if condition else otherwise)


def _case(value: str, choices: Mapping[str, Any], otherwise: Any) -> Any:
    """`${cifrun.case:${dataset.name},{power:2,hepmass:5},1}`: 2 for power, 5 for hepmass, 1 for any other."""
    return _node(choices.get(value, otherwise))


def _by_rows(dataset: DictConfig, choices: Mapping[int, Any]) -> Any:
    """`${cifrun.by_rows:${dataset},{0:A,5000:B}}`: B for 5 000 training data or more, A for fewer."""
    rows = _training_rows(json.dumps(OmegaConf.to_container(dataset, resolve=True), sort_keys=True))
    if 0 not in choices:
        raise ConfigError("cifrun.by_rows has no choice for a small table: give one for 0 rows, {0:A,5000:B}")
    return _node(choices[max(least for least in choices if least <= rows)])


@lru_cache(maxsize=1)
def _training_rows(dataset: str) -> int:
    """How many training data a dataset has, given as JSON; 0 if it can't be loaded, as whoever loads it says why."""
    settings = json.loads(dataset)
    with suppress(ConfigError):
        return len(check(DATASETS[settings["name"]], settings, DATASETS.noun).load().train)
    return 0


def _node(value: Any) -> Any:
    """A list in the form in which a config can hold it."""
    return OmegaConf.create(value) if isinstance(value, list) else value


OmegaConf.register_new_resolver("cifrun.new_dir", _new_dir, use_cache=True, replace=True)
OmegaConf.register_new_resolver("cifrun.sweep", _sweep_dir, use_cache=True, replace=True)
OmegaConf.register_new_resolver("cifrun.job", job_name, use_cache=True, replace=True)
OmegaConf.register_new_resolver("cifrun.inside", _inside, replace=True)
OmegaConf.register_new_resolver("cifrun.if", _if, replace=True)
OmegaConf.register_new_resolver("cifrun.case", _case, replace=True)
OmegaConf.register_new_resolver("cifrun.by_rows", _by_rows, replace=True)
