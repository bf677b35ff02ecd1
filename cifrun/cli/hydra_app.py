"""From a command line to a typed config: the one module that knows Hydra.

Hydra composes `conf/`, the presets and the overrides into plain data, `Config.parse` types it, and a `Job` hands it to
the function behind the verb, once, or once for each job of a multirun.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ..compute.launch_env import started
from ..compute.slurm import requeued, restarted
from ..config.schema import Config, to_dict
from ..errors import CifrunError, ConfigError, RunError, did_you_mean
from ..io.files import mute
from ..plugins import conf_dirs, owner, plugins
from ..registry import DATASETS, FLOWS
from . import launchers as _launchers  # noqa: F401 (registers them)
from .config_groups import conf_dir, groups
from .explain import explain

__all__ = ["PATHS", "Job", "command", "compose", "configure", "names_in"]

#: Keys that hold a path. Their text is taken as it stands, where Hydra would read = , ( or a space as its grammar.
PATHS = ("run", "resume", "output", "data", "per_point", "dataset.path", "dataset.root")

#: What may be typed beside `run=` and `resume=`. All else was settled when the run was trained.
OVERLAY = {
    "eval": ("run", "eval", "device", "seed", "data", "per_point"),
    "sample": ("run", "n", "output", "eval", "device", "seed"),
    "train": ("resume", "trainer", "eval", "device"),
}

#: Overrides with which the same command goes on with what it did before.
AGAIN = ("resume", "hydra.run.dir", "sweep.name")
#: The group of the engines that may run a multirun.
LAUNCHER = "hydra/launcher"
#: Hydra's list of overrides that are not in the name of a job.
UNNAMED = "hydra.job.config.override_dirname.exclude_keys"

#: Of a path in which a job's overrides are spelt out; TensorBoard and file systems add their own names to it.
LONGEST_PATH = 200
#: Of the name of a job in a sweep that has one, which must not depend on where the sweep lies.
LONGEST_NAME = 120


# --- resolvers: what conf/ can compute ------------------------------------------------------------------------------

_reserved: list[list[Path]] = []  # directories that this process made, with parents, to take away if nothing comes
_dry = False  # printing a config or completing a word makes no directory
_commander = 0  # the process that was given the command; 0 in one that an engine started for a job


def _elsewhere() -> bool:
    """Whether this is not the process that was given the command, but one that an engine started, and may again."""
    return os.getpid() != _commander


def _reserve(directory: Path) -> Path:
    """Make a directory that nobody else has: `directory`, or the first free of `directory`-1, -2, …"""
    if _dry:
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
            _reserved.append([candidate, *parents])
            return candidate


def _new_dir(path: str) -> str:
    """`${cifrun.new_dir:PATH}`: a directory of that name, or of that name with a number, made for this job alone."""
    try:
        return str(_reserve(Path(path)))
    except OSError as error:
        raise RunError(f"the run directory '{path}' can't be made: {error.strerror}") from error


def _sweep(name: str | None, path: str) -> str:
    """`${cifrun.sweep:${sweep.name},PATH}`: the directory of the sweep of that name, or without one a new directory."""
    return _new_dir(path) if name is None else str(Path("multirun", name))


def _job(name: str | None, sweep: str, overrides: str) -> str:
    """`${cifrun.job:${sweep.name},SWEEP,OVERRIDES}`: a directory in the sweep's own, named by what is special to it.

    In a sweep that has a name it is the same each time, wherever the sweep lies; without one it is new, unless an
    engine, which may start the job again on another machine, must find it again.
    """
    slug = re.sub(r"(^|--)\+\+", r"\1", overrides)
    slug = re.sub(r"=(True|False)\b", lambda match: match[0].lower(), slug)  # as typed, not as Python prints it
    slug = re.sub(r"[^\w=.-]+", "-", re.sub(r"[][{}()'\"]", "", slug)).strip("-") or "job"
    room = LONGEST_NAME if name is not None else max(24, LONGEST_PATH - len(os.path.abspath(sweep)) - 5)
    if len(slug) > room:
        slug = f"{slug[: room - 9]}-{hashlib.sha256(overrides.encode()).hexdigest()[:8]}"
    return slug if name is not None or _elsewhere() else Path(_new_dir(str(Path(sweep, slug)))).name


def _if(condition: Any, then: Any, otherwise: Any) -> Any:
    """`${cifrun.if:${cif},A,B}`: A where the condition is true, B where it is false."""
    if not isinstance(condition, bool):
        raise ConfigError(f"'{condition}' is not allowed: it should be true or false, as in cif=true")
    return _node(then if condition else otherwise)


def _case(value: str, choices: Mapping[str, Any], otherwise: Any) -> Any:
    """`${cifrun.case:${dataset.name},{power:2,hepmass:5},1}`: 2 for power, 5 for hepmass, 1 for any other."""
    return _node(choices.get(value, otherwise))


def _node(value: Any) -> Any:
    """A list in the form in which a config can hold it."""
    return OmegaConf.create(value) if isinstance(value, list) else value


OmegaConf.register_new_resolver("cifrun.new_dir", _new_dir, use_cache=True, replace=True)
OmegaConf.register_new_resolver("cifrun.sweep", _sweep, use_cache=True, replace=True)
OmegaConf.register_new_resolver("cifrun.job", _job, use_cache=True, replace=True)
OmegaConf.register_new_resolver("cifrun.if", _if, replace=True)
OmegaConf.register_new_resolver("cifrun.case", _case, replace=True)


def _release() -> None:
    """Take away the directories of jobs that never came to write into them, the innermost first."""
    made = {directory for directories in _reserved for directory in directories}
    _reserved.clear()
    for directory in sorted(made, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):  # it holds a run
            if [entry.name for entry in directory.iterdir()] == ["multirun.yaml"]:
                (directory / "multirun.yaml").unlink()
            directory.rmdir()


# --- what other packages add, and what is open -----------------------------------------------------------------------

OPEN_GROUPS = {"flow": (FLOWS, "family"), "dataset": (DATASETS, "name")}


class _PluginConfigs(SearchPathPlugin):
    """Lets Hydra find the YAML of other packages, after that of this one."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for directory, provider in conf_dirs().items():
            search_path.append(provider, f"file://{directory}")


Plugins.instance().register(_PluginConfigs)


def _defaults(cls: type) -> dict[str, Any]:
    """The fields of a config dataclass with their defaults, as YAML would hold them; "???" where there is none."""
    fields = getattr(cls, "__pydantic_fields__", {})
    return {
        name: "???" if field.is_required() else field.get_default(call_default_factory=True)
        for name, field in fields.items()
    }


def _store_defaults() -> None:
    """Give what other packages register without a YAML file a config of its defaults.

    Where a file of ours has the name of one that a launcher of Hydra registers, ours is meant.
    """
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    for name in groups()[LAUNCHER]:
        launchers.pop(f"{name}.yaml", None)
    for group, (registry, key) in OPEN_GROUPS.items():
        for name, point in plugins(group).items():
            if any((conf / group / f"{name}.yaml").is_file() for conf in (conf_dir(), *conf_dirs())):
                continue
            if name in registry:
                node = {**_defaults(registry[name]), key: name}
                if group == "dataset" and "seed" in node:
                    node["seed"] = "${seed}"  # as in every dataset's YAML: the data follow the seed of the run
                ConfigStore.instance().store(name, node, group=group, provider=owner(point))


def _open(override: str) -> str:
    """`flow.kwargs.bins=4` → `++flow.kwargs.bins=4` where `kwargs` is an open mapping: any key may be set in one."""
    group, _, rest = override.partition("=")[0].partition(".")
    field, dot, _ = rest.partition(".")
    if group not in OPEN_GROUPS or not field or not (dot or "{" in override):
        return override
    registry = OPEN_GROUPS[group][0]
    return (
        f"++{override}"
        if any(isinstance(_defaults(registry[name]).get(field), dict) for name in registry)
        else override
    )


# --- the command line -----------------------------------------------------------------------------------------------


class _Parser:
    """Hydra's own options, taken in any order between the overrides."""

    def __init__(self) -> None:
        def fail(message: str) -> NoReturn:
            raise ConfigError(message)

        self.parser = get_args_parser()
        self.parser.error = fail  # type: ignore[method-assign]

    def split(self, words: Sequence[str]) -> tuple[argparse.Namespace, list[str], list[str]]:
        """(Hydra's arguments, its options as typed, the overrides as typed)."""
        arguments = self.parser.parse_intermixed_args(words)
        options = list(words)
        for override in arguments.overrides:
            options.remove(override)
        return arguments, options, list(arguments.overrides)


def _quote_paths(override: str, multirun: bool) -> str:
    """`run=a=b (1)` → `run='a=b (1)'`; the commas of a multirun still separate."""
    key, equals, value = override.partition("=")
    if key not in PATHS or not value or value == "null" or value[0] in "'\"":
        return override
    if multirun and re.match(r"\w+\(.*\)$|\[", value):  # glob(…), choice(…): the grammar of sweeps
        return override
    parts = value.split(",") if multirun else [value]
    return key + equals + ",".join(QuotedString(text=part, quote=Quote.single).with_quotes() for part in parts)


def _check(overrides: Sequence[Override]) -> None:
    """Refuse what Hydra would refuse in words that name neither the key nor the choices."""
    options = groups()
    for override in overrides:
        key, text = override.key_or_group, override.input_line
        if not key:
            raise ConfigError(f"'{text}' is not an override: write KEY=VALUE")
        if override.is_delete() and key in ("flow", "debug"):  # conf/config.yaml looks at both
            raise ConfigError(f"{text} is not allowed, as '{key}' would be missing: write {key}=NAME for another")
        if key not in options or override.is_delete() or override.is_sweep_override():
            continue
        if override.is_add() and override.package is None:
            raise ConfigError(f"{key} is chosen already: write {str(text).lstrip('+')} to choose another")
        if not isinstance(override.value(), str | list | dict):
            raise ConfigError(f"{text} is not allowed: choose one of {', '.join(options[key])}")


@contextmanager
def _process(argv: Sequence[str], full_error: str | None) -> Iterator[None]:
    """Set what Hydra reads from the process: argv and HYDRA_FULL_ERROR."""
    saved_argv, saved_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")

    def set_full_error(value: str | None) -> None:
        os.environ.pop("HYDRA_FULL_ERROR", None)
        if value is not None:
            os.environ["HYDRA_FULL_ERROR"] = value

    sys.argv = list(argv)
    set_full_error(full_error)
    try:
        yield
    finally:
        sys.argv = saved_argv
        set_full_error(saved_error)


def compose(verb: str, words: Sequence[str]) -> int:
    """Compose the config that `words` ask for and do `verb` with it; the exit code.

    Raises `CifrunError` with the sentence for the user. Other exceptions are mistakes of this program.
    """
    global _commander, _dry
    arguments, options, overrides = _Parser().split(words)
    if arguments.experimental_rerun is not None:
        raise ConfigError("--experimental-rerun is not supported, as it runs what a pickle holds: use resume=DIR")
    outside = started()
    if outside is not None and arguments.multirun:
        raise ConfigError(f"-m is not for {outside.by}: device.count=N gives each job of a multirun its own processes")
    inspect = bool(arguments.cfg or arguments.info or arguments.hydra_help or arguments.shell_completion)
    full_error = os.environ.get("HYDRA_FULL_ERROR")
    job = Job(verb, full_error)
    with ExitStack() as stack:
        _commander, _dry = os.getpid(), inspect
        stack.callback(_release)
        try:
            if not arguments.shell_completion:
                overrides = [_open(_quote_paths(override, arguments.multirun)) for override in overrides]
                parsed = OverridesParser.create().parse_overrides(overrides)
                _check(parsed)
                if not inspect and (verb != "train" or any(o.key_or_group == "resume" for o in parsed)):
                    # Nothing new is kept: the job runs where it was called, and a sweeper's notes are thrown away.
                    notes = stack.enter_context(tempfile.TemporaryDirectory(prefix="cifrun-"))
                    overrides = [f"hydra.sweep.dir='{notes}'", *overrides, "hydra.run.dir=."]
                typed = {override.key_or_group: override.is_sweep_override() for override in parsed}
                if outside is not None and outside.rank > 0 and "hydra.run.dir" not in typed:
                    overrides = [*overrides, "hydra.run.dir=."]  # the run directory is that of rank 0
                if verb == "train" and not inspect:
                    if "sweep.name" in typed and not typed.get("trainer.max_steps"):  # a job can be extended
                        overrides.append(f"{UNNAMED}=[sweep.name,trainer.max_steps]")
                    stack.enter_context(requeued(again=not typed.keys().isdisjoint(AGAIN)))
            _store_defaults()
            warnings.filterwarnings("ignore", category=UserWarning, module=r"hydra\b")
            with _process(["cifrun", *overrides, *options], "1"):
                hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)()
        except SystemExit as end:
            if inspect:
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

    Raises `ConfigError` with the sentence that the command line would print.

    Example:
        >>> config = configure(["experiment=two_d_maf", "cif=true", "dataset=rings"])
    """
    try:
        overrides = [_open(_quote_paths(override, multirun=False)) for override in overrides]
        _check(OverridesParser.create().parse_overrides(overrides))
        _store_defaults()
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            data: Any = OmegaConf.to_container(hydra.compose("config", overrides), resolve=True)
        return Config.parse(data)
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        raise ConfigError(sentence) from error


# --- one job --------------------------------------------------------------------------------------------------------


def command(verb: str, config: Config, directory: Path) -> Any:
    """Do what the verb says, with a config that is complete; the run directory is `directory`."""
    if verb == "train":
        from ..training.loop import train

        return train(config, directory, resume=True) if config.resume else train(config, directory)
    if verb == "eval":
        from ..evaluation.evaluate import evaluate

        return evaluate(directory, config)
    if verb == "sample":
        from ..evaluation.sample import sample

        return sample(directory, config)
    if verb == "data":
        return config.dataset.fetch()
    from ..build import describe

    return print(describe(config))


class Job:
    """What Hydra calls with a composed config, once, or once for each job of a multirun.

    A failure that has a sentence is kept in `failures` rather than raised: Hydra would print its own words around it.
    """

    def __init__(self, verb: str, full_error: str | None) -> None:
        self.verb = verb
        self.full_error = full_error
        self.argv = list(sys.argv)
        self.multirun = False
        self.broke = False
        self.failures: list[CifrunError] = []
        self.waiting: list[tuple[Config, Path]] = []  # jobs of a named sweep that another process was at

    def finish(self) -> None:
        """Wait for the jobs that other processes were at, and do what they left of them."""
        from .sweep import take_part

        for config, directory in self.waiting:
            try:
                take_part(config, directory, wait=True)
            except CifrunError as failure:
                print(f"cifrun: {directory.name}: {failure}", file=sys.stderr)
                self.failures.append(failure)

    def __call__(self, composed: DictConfig) -> float | None:
        """The validation log-likelihood, for sweepers that look for the best configuration."""
        settings = HydraConfig.get()
        self.multirun = settings.mode == RunMode.MULTIRUN
        try:
            with _process(self.argv, self.full_error):  # as typed
                return _score(self.run(composed, settings.overrides.task, Path(settings.runtime.output_dir)))
        except BrokenPipeError:  # Hydra would print words of its own
            mute()
            return None
        except Exception as error:
            sentence = explain(error, inside=True)
            if _elsewhere():  # where nobody will look at `failures`, and not every exception can be sent from
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
        print(f"cifrun: {' '.join(overrides)}: {failure}", file=sys.stderr)
        self.failures.append(failure)

    def run(self, composed: DictConfig, overrides: Sequence[str], directory: Path) -> Any:
        """Type the config, read the run that it names, and do the verb."""
        data: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        config, outside = Config.parse(data), started()
        if self.verb in ("show", "data"):
            return command(self.verb, config, directory)
        if self.verb == "train" and config.run is not None:
            raise ConfigError("train has no key 'run': resume=DIR continues a run, hydra.run.dir=DIR names a new one")
        if self.verb == "train" and config.data is not None:
            raise ConfigError(f"train has no key 'data': dataset=file dataset.path={config.data} trains on a file")
        if self.verb == "train" and config.per_point is not None:
            raise ConfigError("train has no key 'per_point': cifrun eval run=DIR per_point=FILE writes one")
        if self.verb == "train" and config.resume is None and (config.sweep.name is not None or _elsewhere()):
            return self._part(config, directory)
        if self.verb == "train" and config.resume is None:
            if restarted():
                from .sweep import go_on

                return go_on(config, directory)
            if (directory / "config.yaml").exists() and (outside is None or outside.rank == 0):
                raise RunError(f"'{directory}' already holds a run: resume={directory} continues it")
            return command("train", config, directory)
        name = "resume" if self.verb == "train" else "run"
        run = getattr(config, name)
        if run is None:
            raise ConfigError(f"'run' is missing: cifrun {self.verb} run=DIR, with a directory that cifrun train made")
        directory = Path(os.path.abspath(run))
        saved = to_dict(_load(directory))
        saved |= {"run": None, "resume": None, **{key: data[key] for key in ("n", "output", "data", "per_point")}}
        typed = OverridesParser.create().parse_overrides(list(overrides))
        config = Config.parse(_overlay(saved, data, typed, self.verb) | {name: str(directory)})
        return command(self.verb, config, directory)

    def _part(self, config: Config, directory: Path) -> Any:
        """A job that may have been begun before: of a sweep that has a name, or given to an engine."""
        from .sweep import take_part

        if not self.multirun:
            raise ConfigError(f"sweep.name={config.sweep.name} is of a multirun: add -m")
        summary = take_part(config, directory, wait=_elsewhere())  # there, nobody will look at `waiting`
        if summary is None:
            self.waiting.append((config, directory))
        return summary


def _score(result: Any) -> float | None:
    """The number that a sweeper maximises: what a run was best at in validation, or what an evaluation found."""
    if not isinstance(result, Mapping):
        return None
    score = result.get("best_valid_log_likelihood", result.get("log_likelihood"))
    return score if isinstance(score, float) else None


def _load(directory: Path) -> Config:
    """The config of a run. Raises `RunError`, with what may have been meant instead."""
    from ..runs.directory import RunDirectory

    try:
        return RunDirectory(directory).config()
    except RunError as error:
        near = ""
        if not directory.exists():
            near = did_you_mean(directory.name, names_in(directory.parent))
        elif not (directory / "config.yaml").exists():
            inside = [name for name in names_in(directory) if (directory / name / "config.yaml").exists()]
            near = f"; did you mean '{directory / inside[-1]}'?" if inside else ""
        raise RunError(f"{error}{near}") from error


def names_in(directory: Path) -> list[str]:
    """What a directory holds, sorted; nothing if it can't be read."""
    try:
        return sorted(entry.name for entry in directory.iterdir())
    except OSError:
        return []


def _overlay(saved: dict[str, Any], data: Mapping[str, Any], typed: Sequence[Override], verb: str) -> dict[str, Any]:
    """Write what was typed, and nothing else of the composed `data`, over the config that a run was trained with."""
    for override in typed:
        first, *rest = override.key_or_group.split(".")
        if first not in OVERLAY[verb] or override.is_delete() or override.package is not None:
            what = first if first in saved else "settings"
            doing = "resume=DIR" if verb == "train" else "run=DIR"
            raise ConfigError(
                f"a run keeps its {what}: '{override.input_line}' can't change it; "
                f"cifrun {verb} {doing} takes {', '.join(OVERLAY[verb])}"
            )
        source, target, key = data, saved, first
        for name in rest:
            source, target, key = source[key], target[key], name
        target[key] = source[key]
    return saved
