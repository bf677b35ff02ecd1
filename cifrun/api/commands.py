"""What the commands of the command line do, as functions."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from ..cli.hydra_app import configure as compose
from ..config.roles import changeable, flattened
from ..config.schema import Config, to_dict
from ..errors import ConfigError, RunError
from ..evaluation.evaluate import evaluate as evaluate_run
from ..runs.directory import RunDirectory
from ..training.loop import train as train_run
from .process import as_it_was

__all__ = ["composed", "configure", "evaluate", "train"]


@lru_cache
def composed(*words: str) -> Config:
    """`configure`, once for the same words: the defaults that the command line has for a flow or an objective."""
    return compose(words)


def configure(*words: str) -> Config:
    """The config that `cifrun train WORDS` would use; nothing is trained or written.

    Raises:
        ConfigError: A word is not one that the command line would take; the sentence says why.

    Example:
        >>> import cifrun
        >>> cifrun.configure("dataset=two_moons", "flow=resflow", "cif=true").flow.family
        'resflow'
    """
    return compose(words)


def train(config: Config, directory: str | Path, resume: bool = False) -> dict[str, Any]:
    """Train what `config` describes in a run directory, test it, and print the result: what `cifrun train` does.

    Arguments:
        config: Of `configure`.
        directory: Where the run's files go.
        resume: Go on from its last checkpoint; only `trainer`, `eval` and `device` may differ from the run's config.

    Returns:
        The content of `summary.json`: the test result is under "test".

    Raises:
        ConfigError: Something named in the config can't be used.
        RunError: A file of the run can't be used.
        TrainingError: Too many losses in a row were not finite; the last good checkpoint is kept.
        KeyboardInterrupt: Ctrl-C, or a signal that asks for a stop; the state was saved.
    """
    run = RunDirectory(Path(directory))
    if run.exists() and not resume:
        raise RunError(f"{run.path} already holds a run: resume=True continues it")
    if resume:
        before, now = (flattened(to_dict(c)) for c in (run.config(), config))  # parsed: an older run lacks newer keys
        free = changeable("train")
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name) and name.partition(".")[0] not in free:
                raise ConfigError(f"a run keeps its {name}: {now.get(name)} is not {before.get(name)}")
    with as_it_was(config.seed):
        return train_run(config, run.path, resume)


def evaluate(directory: str | Path, config: Config | None = None) -> dict[str, Any]:
    """Evaluate the best weights of a run on its test set, print a table, and write the result: what `cifrun eval` does.

    Arguments:
        directory: The run directory.
        config: The run's own, with other settings of `eval` or `device`; by default as they are in the run.

    Returns:
        The test result, as `summary.json` has it under "test".

    Raises:
        ConfigError: Something named in the config can't be used.
        RunError: A file of the run can't be used.
    """
    run = RunDirectory(Path(directory))
    config = run.config() if config is None else config
    with as_it_was(config.seed):
        return evaluate_run(run.path, config)
