"""What a verb does with a composed config: one job, or each job of a multirun."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ..compute.slurm import restarted
from ..config.roles import changeable
from ..config.schema import Config, DatasetSettings
from ..errors import CifrunError, ConfigError, RunError, did_you_mean
from ..io.terminal import mute, tell
from .explain import explain
from .hydra_internals import environment
from .overlay import overlay
from .resolvers import directories

__all__ = ["COMMANDS", "Job", "names_in"]

#: What to write instead of a key that a verb does not have.
INSTEAD = {
    "run": "resume=DIR continues a run, hydra.run.dir=DIR names a new one",
    "data": "dataset=file dataset.path={} trains on a file",
    "per_point": "cifrun eval run=DIR per_point=FILE writes one",
    "resume": "cifrun train resume=DIR continues a run",
    "n": "cifrun sample run=DIR n=1000 draws from a run",
    "output": "cifrun sample run=DIR output=FILE draws from a run",
}


def _train(config: Config, directory: Path) -> Any:
    from ..training.loop import train

    return train(config, directory, resume=config.resume is not None)


def _evaluate(config: Config, directory: Path) -> Any:
    from ..evaluation.evaluate import evaluate

    return evaluate(directory, config)


def _sample(config: Config, directory: Path) -> Any:
    from ..evaluation.sample import sample

    return sample(directory, config)


def _fetch(config: Config, _: Path) -> Any:
    from ..build import dataset_of

    return dataset_of(config).fetch()


def _show(config: Config, _: Path) -> None:
    from ..build import describe

    print(describe(config))


#: What each verb does with a complete config and the run directory.
COMMANDS: dict[str, Callable[[Config, Path], Any]] = {
    "train": _train,
    "eval": _evaluate,
    "sample": _sample,
    "data": _fetch,
    "show": _show,
}


class Job:
    """What Hydra calls with a composed config, once, or once for each job of a multirun.

    A failure that has a sentence is kept in `failures` rather than raised: Hydra would print its own words around it.

    Arguments:
        verb: One of `COMMANDS`.

    Attributes:
        multirun: Whether this is one job of several; known when it runs.
        broke: Whether an error was a mistake of this program, for which there is no sentence.
        failures: Of the jobs that failed.
    """

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.full_error = os.environ.get("HYDRA_FULL_ERROR")
        self.argv = list(sys.argv)
        self.multirun = False
        self.broke = False
        self.failures: list[CifrunError] = []
        self._waiting: list[tuple[Config, Path]] = []  # jobs of a named sweep that another process was at

    def __call__(self, composed: DictConfig) -> float | None:
        """The validation log-likelihood, for sweepers that look for the best configuration."""
        settings = HydraConfig.get()
        self.multirun = settings.mode == RunMode.MULTIRUN
        try:
            with environment(self.argv, self.full_error):  # as typed
                return _score(self._run(composed, settings.overrides.task, Path(settings.runtime.output_dir)))
        except BrokenPipeError:  # Hydra would print words of its own
            mute()
            return None
        except Exception as error:
            sentence = explain(error, inside=True)
            if directories.elsewhere():  # nobody will look at `failures` there, and not every exception can be sent
                with suppress(OSError):
                    os.rmdir(settings.runtime.output_dir)  # nothing was written
                if sentence is None:
                    raise RuntimeError("".join(traceback.format_exception(error))) from None
                raise error if isinstance(error, CifrunError) else ConfigError(sentence) from error
            if sentence is None or self.full_error == "1":
                self.broke = sentence is None
                raise
            failure = error if isinstance(error, CifrunError) else ConfigError(sentence)
            if self.multirun:
                self.report(settings.overrides.task, failure)
            else:
                self.failures.append(failure)
            return None

    def report(self, overrides: Sequence[str], failure: CifrunError) -> None:
        """Say that a job of a multirun failed, here or elsewhere, and remember it."""
        self.multirun = True
        tell(f"{' '.join(overrides)}: {failure}")
        self.failures.append(failure)

    def finish(self) -> None:
        """Wait for the jobs that other processes were at, and do what they left of them; say what became of all."""
        from .sweep import take_part

        for config, directory in self._waiting:
            try:
                take_part(config, directory, wait=True)
            except CifrunError as failure:
                self.report([directory.name], failure)
        if self.verb == "train" and self.multirun and directories.sweep is not None:
            from ..runs.directory import DONE, RunDirectory

            runs = [RunDirectory(path) for path in RunDirectory.below(directories.sweep)]
            done = sum(_status(run) in DONE for run in runs)
            failed = f", {len(self.failures)} failed" if self.failures else ""
            look = f": cifrun report {shlex.quote(str(directories.sweep))}" if runs else ""
            tell(f"{done} complete{failed}{look}")

    def _run(self, composed: DictConfig, overrides: Sequence[str], directory: Path) -> Any:
        """Type the config, that of a run that exists with what was typed, and do the verb."""
        data: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        for override in overrides if self.verb not in ("eval", "sample") else ():  # `overlay` looks at theirs
            key = override.partition("=")[0].strip("+~")
            if key in INSTEAD and key not in changeable(self.verb):
                raise ConfigError(f"{self.verb} has no key '{key}': {INSTEAD[key].format(data.get(key))}")
            if self.verb == "data" and key.partition(".")[0] != "dataset":
                raise ConfigError(f"'{override}' would change nothing: cifrun data fetch takes keys of dataset alone")
        if self.verb not in ("train", "eval", "sample"):
            return COMMANDS[self.verb](Config.parse(data), directory)
        if self.verb == "train" and data.get("resume") is None:
            return self._train(Config.parse(data), directory)
        key = "resume" if self.verb == "train" else "run"
        if data.get(key) in (None, ""):
            raise ConfigError(
                f"'{key}' is missing: cifrun {self.verb} {key}=DIR, with a directory that cifrun train made"
            )
        directory = Path(os.path.abspath(os.path.expanduser(str(data[key]))))
        return COMMANDS[self.verb](
            _config_of_run(directory, data | {key: str(directory)}, overrides, self.verb), directory
        )

    def _train(self, config: Config, directory: Path) -> Any:
        """Train, or do what is left where the same job may have been begun before."""
        from .sweep import go_on, take_part

        if config.sweep.name is not None or directories.elsewhere():
            if not self.multirun:
                raise ConfigError(f"sweep.name={config.sweep.name} is of a multirun: add -m")
            summary = take_part(config, directory, wait=directories.elsewhere())  # there, nobody calls `finish`
            if summary is None:
                self._waiting.append((config, directory))
            return summary
        if restarted():
            return go_on(config, directory)
        return COMMANDS["train"](config, directory)


def _config_of_run(directory: Path, composed: dict[str, Any], overrides: Sequence[str], verb: str) -> Config:
    """The config of a run that exists, with what was typed.

    Raises:
        RunError: There is no such run; the sentence says what may have been meant.
    """
    from ..runs.directory import RunDirectory

    run = RunDirectory(directory)
    try:
        saved = run.plain_config()
    except RunError as error:
        near = ""
        if not directory.exists():
            near = did_you_mean(directory.name, names_in(directory.parent))
        elif not run.exists():
            inside = [name for name in names_in(directory) if RunDirectory(directory / name).exists()]
            near = f"; did you mean '{directory / inside[-1]}'?" if inside else ""
        raise RunError(f"{error}{near}") from error
    data = overlay(saved, composed, overrides, verb)
    try:
        config = Config.parse(data)
    except ConfigError:
        run.config()  # names the file if that is where the mistake is
        raise
    config.dataset.name = str(saved["dataset"]["name"])  # also where another file is read in a way of its own
    if verb != "sample" and config.data is None:
        _check_moved(config.dataset, directory)
    return config


def _check_moved(dataset: DatasetSettings, directory: Path) -> None:
    """Refuse a run whose file is not where it was, while there is nothing but a name to go by.

    Raises:
        RunError: It is not; the sentence says what to type once it is found.
    """
    path = getattr(dataset, "path", None)
    if isinstance(path, Path) and not path.exists():
        near = did_you_mean(path.name, names_in(path.parent))
        raise RunError(
            f"there is no file {path}, which {directory} was trained on: if it has moved, add dataset.path=NEWPLACE"
            f"{near}"
        )


def _status(run: Any) -> Any:
    try:
        return run.summary().get("status")
    except CifrunError:
        return None


def names_in(directory: Path) -> list[str]:
    """What a directory holds, sorted; nothing if it can't be read."""
    try:
        return sorted(entry.name for entry in directory.iterdir())
    except OSError:
        return []


def _score(result: Any) -> float | None:
    """The number that a sweeper maximises: what a run was best at in validation, or what an evaluation found."""
    if not isinstance(result, Mapping):
        return None
    score = result.get("best_valid_log_likelihood", result.get("log_likelihood"))
    return score if isinstance(score, float) else None
