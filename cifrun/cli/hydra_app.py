"""From words to a composed config: Hydra reads `conf/`, presets and overrides, and hands the result to a `Job`."""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import hydra
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from ..compute.launch_env import started
from ..compute.slurm import requeued
from ..config.roles import lengths
from ..config.schema import Config
from ..errors import ConfigError
from . import launchers as _launchers  # noqa: F401 (registers them)
from .config_groups import conf_dir
from .explain import explain
from .hydra_internals import environment
from .jobs import Job
from .overrides import prepare, split
from .plugin_configs import store_defaults
from .resolvers import PLACES, directories

__all__ = ["compose", "configure"]

#: Overrides with which the same command goes on with what it did before.
AGAIN = ("resume", "hydra.run.dir", "sweep.name")
#: Hydra's list of overrides that are not in the name of a job.
UNNAMED = "hydra.job.config.override_dirname.exclude_keys"


def compose(verb: str, words: Sequence[str]) -> int:
    """Compose the config that `words` ask for and do `verb` with it; the exit code.

    Raises:
        CifrunError: Something that the user can mend; other exceptions are mistakes of this program.
    """
    arguments, options, overrides = split(words)
    _refuse(arguments)
    inspects = bool(arguments.cfg or arguments.info or arguments.hydra_help or arguments.shell_completion)
    job = Job(verb)
    job.multirun = bool(arguments.multirun)
    with directories.command(dry=inspects), ExitStack() as stack:
        try:
            if not arguments.shell_completion:
                overrides, parsed = prepare(overrides, arguments.multirun)
                if not inspects:
                    _check_places(parsed, arguments.multirun)
                    overrides = _with_places(verb, overrides, parsed, stack)
            store_defaults()
            warnings.filterwarnings("ignore", category=UserWarning, module=r"hydra\b")
            with environment(["cifrun", *overrides, *options], full_error="1"):
                hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)()
        except SystemExit as end:
            if inspects:
                return 2 if end.code else 0
            raise
        except Exception as error:
            sentence = None if job.broke else explain(error)
            if sentence is None:
                raise
            raise ConfigError(sentence) from error
        job.finish()
    if job.failures and not job.multirun:
        raise job.failures[0]
    return 2 if job.failures else 0


def configure(overrides: Sequence[str] = ()) -> Config:
    """The config that `cifrun train` would use with these words, for use from Python: nothing is trained or written.

    Raises:
        ConfigError: The words ask for what is not allowed; the sentence is that of the command line.

    Example:
        >>> configure(["experiment=two_d_maf", "cif=true", "dataset=rings"]).dataset.name
        'rings'
    """
    try:
        ready, _ = prepare(overrides, multirun=False)
        store_defaults()
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            data: Any = OmegaConf.to_container(hydra.compose("config", ready), resolve=True)
        return Config.parse(data)
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        raise ConfigError(sentence) from error


def _refuse(arguments: argparse.Namespace) -> None:
    """Raise `ConfigError` for options of Hydra that are not for this program, or not as it was started."""
    if arguments.experimental_rerun is not None:
        raise ConfigError("--experimental-rerun is not supported, as it runs what a pickle holds: use resume=DIR")
    process = started()
    if process is not None and arguments.multirun:
        raise ConfigError(f"-m is not for {process.by}: device.count=N gives each job of a multirun its own processes")


def _check_places(parsed: Sequence[Override], multirun: bool) -> None:
    """Raise `ConfigError` for a place that is of a single job in a multirun, or the other way round."""
    typed = [word.key_or_group for word in parsed]
    if multirun and "hydra.run.dir" in typed:
        raise ConfigError("hydra.run.dir is of one job: with -m, hydra.sweep.dir=DIR or sweep.name=NAME says where")
    if not (multirun or "hydra.mode" in typed):
        for key in ("hydra.sweep.dir", "hydra.sweep.subdir"):
            if key in typed:
                raise ConfigError(f"{key} is of a multirun: add -m, or write hydra.run.dir=DIR")


def _with_places(verb: str, overrides: list[str], parsed: Sequence[Override], stack: ExitStack) -> list[str]:
    """The overrides, with those that say where a job goes; `stack` holds what is open as long as the jobs run."""
    process = started()
    typed = {word.key_or_group: word.is_sweep_override() for word in parsed}  # and whether with several values
    if verb != "train" or "resume" in typed:
        for key in PLACES.keys() & typed.keys():
            raise ConfigError(f"{key} is not for {verb}{' resume=DIR' * (verb == 'train')}: the run stays where it is")
        # Nothing new is kept: the job runs where it was called, and a sweeper's notes are thrown away.
        notes = stack.enter_context(tempfile.TemporaryDirectory(prefix="cifrun-"))
        overrides = [f"hydra.sweep.dir='{notes}'", *overrides, "hydra.run.dir=."]
    elif process is not None and process.rank > 0 and "hydra.run.dir" not in typed:
        overrides = [*overrides, "hydra.run.dir=."]  # the run directory is that of rank 0
    if verb == "train":
        for word in parsed:
            directories.expect(word.key_or_group, word.value() if not word.is_sweep_override() else None)
        # What is in the name of a job: in a sweep that is found again all but its length, as a job can be extended; in
        # another one what varies.
        fixed = [name for name, several in typed.items() if not several] if any(typed.values()) else []
        names = [name for name in lengths() if not typed.get(name)] if "sweep.name" in typed else fixed
        overrides = [*overrides, f"{UNNAMED}=[{','.join(dict.fromkeys(['sweep.name', *names]))}]"]
        stack.enter_context(requeued(again=not typed.keys().isdisjoint(AGAIN)))
    return overrides
