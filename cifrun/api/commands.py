"""What the commands of the command line do, as functions."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..build import check_has_data
from ..cli.hydra_app import configure as compose
from ..config.roles import changeable, flattened, holds_path, reading
from ..config.schema import Config, to_dict
from ..errors import ConfigError
from ..evaluation.evaluate import evaluate as evaluate_run
from ..runs.directory import RunDirectory
from ..training.loop import train as train_run
from .process import as_it_was

__all__ = ["composed", "configure", "evaluate", "train"]


@lru_cache
def composed(*words: str) -> Config:
    """`configure`, once for the same words: the defaults that the command line has for a flow or an objective."""
    try:
        return compose(words)
    except ConfigError as error:  # its sentence is all that a caller needs of what Hydra and pydantic say
        raise error.with_traceback(None) from None


def configure(*words: str) -> Config:
    """The config that `cifrun train WORDS` would use; nothing is trained or written.

    Raises:
        ConfigError: A word is not one that the command line would take; the sentence says why.
        TypeError: A word is no text.

    Example:
        >>> import cifrun
        >>> cifrun.configure("dataset=two_moons", "flow=resflow", "cif=true").flow.family
        'resflow'
    """
    if wrong := [word for word in words if not isinstance(word, str)]:
        raise TypeError(f'configure takes words, as configure("flow=maf", "cif=true"), and not {wrong[0]!r}')
    return composed(*words)


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
        TypeError: The config is none of `configure`.
        TrainingError: Too many losses in a row were not finite; the last good checkpoint is kept.
        KeyboardInterrupt: Ctrl-C, or a signal that asks for a stop; the state was saved.
    """
    run = RunDirectory(Path(directory))
    _check_is_config(config)
    if resume:
        _check_agrees(run.config(), config, "train")
    with as_it_was(config.seed):
        return train_run(config, run.path, resume)


def evaluate(directory: str | Path, config: Config | None = None) -> dict[str, Any]:
    """Evaluate the best weights of a run on its test set, print a table, and write the result: what `cifrun eval` does.

    Arguments:
        directory: The run directory.
        config: The run's own, with other settings of `eval`, `diagnostics` or `device`, or with the place to which its
            data have moved, `dataset.path`; by default as they are in the run, without diagnostics, which are there
            already.

    Returns:
        The test result, as `summary.json` has it under "test".

    Raises:
        ConfigError: Something named in the config can't be used, or it is that of another run.
        RunError: A file of the run can't be used.
        TypeError: The config is none.

    Example:
        With more importance samples than the run has:

            config = cifrun.load("outputs/run").config
            config.eval.importance_samples = 1000
            cifrun.evaluate("outputs/run", config)
    """
    run = RunDirectory(Path(directory))
    if config is None:
        config = run.config()
        config = replace(config, diagnostics=replace(config.diagnostics, enabled=False))
    else:
        _check_is_config(config)
        _check_agrees(run.config(), config, "eval")
    check_has_data(run, config, "give data of your own to log_prob of cifrun.load(…)")
    with as_it_was(config.seed):
        return evaluate_run(run.path, config)


def _check_is_config(config: Any) -> None:
    if not isinstance(config, Config):
        raise TypeError(f"config is a {type(config).__name__}, where one of cifrun.configure(…) belongs")


def _check_agrees(saved: Config, config: Config, verb: str) -> None:
    """Refuse a config that differs from the run's in what `verb` can't change."""
    before, now = (flattened(to_dict(c)) for c in (saved, config))  # parsed: an older run lacks newer keys
    free, moved = changeable(verb), [name for name in reading(verb) if holds_path(name)]
    for name in (*sorted(before.keys() & now.keys()), *sorted(before.keys() ^ now.keys())):
        if before.get(name) != now.get(name) and name.partition(".")[0] not in free and name not in moved:
            raise ConfigError(f"a run keeps its {name}: {now.get(name)} is not {before.get(name)}")
