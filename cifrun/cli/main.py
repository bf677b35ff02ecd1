"""The front door: a verb, its overrides, and one sentence when something is wrong with them.

`cifrun VERB [KEY=VALUE …]`. Help costs nothing: only a verb that needs Hydra, torch or a registry imports it.
"""

from __future__ import annotations

import os
import sys
import textwrap
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import CifrunError, ConfigError, did_you_mean
from ..io.files import mute
from .config_groups import groups

__all__ = ["main"]


@dataclass(frozen=True)
class Verb:
    """What `cifrun --help` and `cifrun VERB --help` say of a verb."""

    summary: str
    details: str
    keys: tuple[str, ...]
    examples: tuple[str, ...]


VERBS = {
    "train": Verb(
        "train a flow, plain or indexed, and evaluate it",
        "Writes a new run directory, outputs/DATE/TIME or hydra.run.dir=DIR. With -m it runs a job for each "
        "combination of values that commas separate, each in a directory of its own under multirun/DATE/TIME; a job "
        "that fails is reported, the others go on, and the exit code is 2. With sweep.name=NAME they are in "
        "multirun/NAME, and the same command given again does what is left of them. resume=DIR continues a run "
        "exactly where it was stopped, or extends a finished one when trainer.max_steps is larger than before; "
        "trainer, eval and device may change.",
        (
            *("dataset", "dataset.path", "flow", "flow.depth", "cif", "index.dim", "index.depth"),
            *("objective", "optimizer.lr"),
            *("trainer.max_steps", "trainer.batch_size", "seed", "device", "experiment", "debug", "resume"),
        ),
        (
            "cifrun train dataset=two_moons flow=resflow cif=true",
            "cifrun train experiment=two_d_maf dataset=two_uniforms cif=true,false seed=1,2,3 -m",
            "cifrun train dataset=file dataset.path=my.csv 'dataset.columns=[height,weight]' flow=maf",
            "cifrun train resume=outputs/DATE/TIME trainer.max_steps=5000",
        ),
    ),
    "eval": Verb(
        "estimate the test log-likelihood of a run",
        "Reads the run's config and best weights; eval, device and seed may change, all else stays as it was trained. "
        "data=FILE evaluates another table instead of the test set and leaves the run's records alone; its columns are "
        "found by the names of those that the run was trained on; of images, an array (.npy) of grey levels, "
        "(n, C, H, W). per_point=FILE writes a table (.csv, .tsv, .parquet, "
        ".npz) with a line for each datum: row, its place in FILE or in the test set; log_likelihood and elbo in nats; "
        "ess, the effective sample size.",
        ("run", "data", "per_point", "eval.importance_samples", "eval.chunk_size", "eval.seed", "device"),
        (
            "cifrun eval run=outputs/DATE/TIME eval.importance_samples=1000",
            "cifrun eval run=outputs/DATE/TIME data=other.csv per_point=scores.csv",
        ),
    ),
    "sample": Verb(
        "draw samples from a run into a file",
        "Reads the run's config and best weights, and writes samples as an array (.npy), a picture (.png), or a table "
        "(.csv, .tsv, .parquet, .npz) with the names of the columns that it was trained on. Of images, all hold grey "
        "levels, and the picture is a grid.",
        ("run", "n", "output", "seed", "device"),
        ("cifrun sample run=outputs/DATE/TIME n=10000 output=samples.npy",),
    ),
    "report": Verb(
        "compare many runs: means over seeds with their errors",
        "Finds all runs in and below the directories. Runs that differ in nothing but the seed are one row of the "
        "tables; those that are not complete are listed below. Writes report.md, report.csv, report.tex and "
        "report.html: a page with all pictures in it, to output=DIR, by default the folder report in the first "
        "directory. --watch prints the tables again every few seconds until no run is under way.",
        ("report.output",),
        ("cifrun report multirun/DATE/TIME", "cifrun report outputs multirun output=comparison --watch"),
    ),
    "show": Verb(
        "print the steps that a config builds, and train nothing",
        "Takes the same overrides as train.",
        ("dataset", "flow", "flow.depth", "cif", "index.dim", "index.depth"),
        ("cifrun show flow=maf index.depth=2",),
    ),
    "list": Verb("print the datasets and the flows", "Takes no overrides.", (), ("cifrun list",)),
    "data": Verb(
        "download a dataset: cifrun data fetch NAME",
        "Downloads what dataset=NAME reads from its public archive, checks it and unpacks it into dataset.root. A "
        "download that was cut off goes on where it stopped when the command is given again.",
        ("dataset.root",),
        ("cifrun data fetch power", "cifrun data fetch mnist dataset.root=/data/images"),
    ),
}

KEYS = {
    "dataset": ("dataset=NAME", "where x comes from"),
    "dataset.path": ("dataset.path=FILE", "with dataset=file: your own csv, tsv, parquet, npy or npz"),
    "flow": ("flow=NAME", "the base flow"),
    "flow.depth": ("flow.depth=10", "its number of steps"),
    "cif": ("cif=true|false", "index the steps, or train the plain flow"),
    "index.dim": ("index.dim=1", "size of each index u_l"),
    "index.depth": ("index.depth=all", "or how many steps carry an index, counted from the data"),
    "objective": ("objective=elbo|iwae", "what training maximises"),
    "optimizer.lr": ("optimizer.lr=0.001", "learning rate"),
    "trainer.max_steps": ("trainer.max_steps=1000", "optimiser steps"),
    "trainer.batch_size": ("trainer.batch_size=1000", "data a step"),
    "seed": ("seed=0", "initial weights, order of the data, and every draw"),
    "device": ("device=auto|cpu|gpu", "where it runs; device.precision, device.compile, …"),
    "experiment": ("experiment=NAME", "a preset of everything above"),
    "debug": ("debug=tiny", "everything once, in seconds"),
    "run": ("run=DIR", "the run directory"),
    "resume": ("resume=DIR", "the run directory to continue"),
    "eval.importance_samples": ("eval.importance_samples=100", "m of IWAE_m: more is a tighter bound"),
    "eval.chunk_size": ("eval.chunk_size=auto", "evaluated at once; a number for less memory"),
    "eval.seed": ("eval.seed=0", "the evaluation's own random numbers"),
    "n": ("n=1000", "how many samples"),
    "output": ("output=FILE", ".npy, .png, or a table: .csv, .tsv, .parquet, .npz"),
    "report.output": ("output=DIR", "where report writes its four files"),
    "data": ("data=FILE", "evaluate this table, or .npy of images, instead of the test set"),
    "per_point": ("per_point=FILE", "a table to write, a line for each datum"),
    "dataset.root": ("dataset.root=DIR", "where a fetched dataset's files are; by default ~/.cache/cifrun"),
}

HYDRA = {
    "-m": "a job for each combination of values that commas separate: seed=1,2,3",
    "--cfg job": "print the composed config instead (--resolve: with its interpolations worked out)",
    "--info": "print where configs are searched for, and plugins",
    "-cd DIR": "look for configs in DIR too: DIR/experiment/mine.yaml is experiment=mine",
    "-sc": 'eval "$(cifrun -sc install=bash)" lets TAB complete verbs, groups and keys',
}

#: Hydra's options that need no verb, as they do nothing with the config but show it.
VERBLESS = ("--cfg", "-c", "--info", "-i", "--hydra-help")


# --- help -------------------------------------------------------------------------------------------------------------


def _table(rows: dict[str, str], width: int) -> str:
    lines = []
    for name, text in rows.items():
        first, *more = textwrap.wrap(text, 100 - width) or [""]
        lines += [f"  {name:{width}}{first}", *(f"  {'':{width}}{line}" for line in more)]
    return "\n".join(lines)


def _choices() -> str:
    return _table({name: ", ".join(options) for name, options in groups().items()}, 16)


def usage() -> str:
    """The text of `cifrun --help`."""
    return f"""\
cifrun: train and compare continuously indexed flows

usage: cifrun VERB [KEY=VALUE …] [OPTION …]       cifrun VERB --help says more of a verb

verbs
{_table({name: verb.summary for name, verb in VERBS.items()}, 14)}

groups (GROUP=NAME picks, GROUP.KEY=VALUE changes one key)
{_choices()}

keys
{_table(dict(KEYS.values()), 30)}

options
{_table(HYDRA, 14)}

examples
{chr(10).join(f"  {example}" for verb in VERBS.values() for example in verb.examples)}"""


def usage_of(name: str) -> str:
    """The text of `cifrun VERB --help`."""
    verb = VERBS[name]
    parts = [f"cifrun {name}: {verb.summary}\n", textwrap.fill(verb.details, 100)]
    if verb.keys:
        parts += ["\nkeys (cifrun --help lists more)", _table(dict(KEYS[key] for key in verb.keys), 30)]
        shown = _choices() if name in ("train", "show") else ""
        parts += ["\ngroups (GROUP=NAME picks, GROUP.KEY=VALUE changes one key)", shown] if shown else []
    options = {"--watch": "until no run is under way"} if name == "report" else HYDRA
    parts += ["\noptions", _table(options, 14)]
    return "\n".join([*parts, "\nexamples", *(f"  {example}" for example in verb.examples)])


def catalogue() -> str:
    """The text of `cifrun list`: a line for each dataset and each flow."""
    from ..registry import DATASETS, FLOWS

    blocks = []
    for registry in (DATASETS, FLOWS):
        lines = [f"  {name:20}{summary}" for name, summary in registry.describe().items()]
        lines += [f"  {name:20}{sentence}" for name, sentence in registry.broken().items()]
        blocks.append("\n".join([f"{registry.noun}s ({registry.noun}=NAME)", *lines]))
    return "\n\n".join(blocks)


# --- the door ---------------------------------------------------------------------------------------------------------


def _split(words: Sequence[str]) -> tuple[str, list[str]]:
    """(the verb, the words that remain)."""
    first = next((word for word in words if not word.startswith("-") and word in VERBS), None)
    if first is not None and (words[0] == first or words[0].startswith("-")):
        rest = list(words)
        rest.remove(first)
        return first, rest
    if any(word in VERBLESS for word in words):
        return "show", list(words)
    word = words[0]
    if "=" in word or word.startswith("-"):
        raise ConfigError(f"no verb before '{word}': write cifrun VERB {word}, with a verb of {', '.join(VERBS)}")
    raise ConfigError(f"there is no verb '{word}': choose one of {', '.join(VERBS)}{did_you_mean(word, VERBS)}")


def _dataset_to_fetch(words: Sequence[str]) -> list[str]:
    """fetch NAME … → dataset=NAME …"""
    first, name, *rest = [*words, "", ""]
    if first != "fetch" or not name or "=" in name or name.startswith("-"):
        what = " ".join(["cifrun data", *words])
        raise ConfigError(f"{what}: write cifrun data fetch NAME, as in cifrun data fetch power")
    return [f"dataset={name}", *filter(None, rest)]


def _report(words: Sequence[str]) -> int:
    """DIR … [output=DIR] [--watch]"""
    from ..reporting.report import report, watch

    output = None
    directories = []
    for word in words:
        if word.startswith("output="):
            output = Path(word.removeprefix("output=")).expanduser()
        elif word != "--watch" and not Path(word).is_dir() and (word.startswith("-") or "=" in word):
            raise ConfigError(f"cifrun report takes directories, output=DIR and --watch, but got '{word}'")
        elif word != "--watch":
            directories.append(Path(word))
    if not directories:
        raise ConfigError("cifrun report needs a directory to look into: write cifrun report outputs")
    (watch if "--watch" in words else report)(directories, output)
    return 0


def _main(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"cifrun {version('cifrun')}")
        return 0
    if any(word in ("-sc", "--shell-completion") for word in words):
        from .completion import complete
        from .hydra_app import compose

        return complete(list(VERBS), words) if "COMP_LINE" in os.environ else compose("show", words)
    verb, rest = _split(words)
    if any(word in ("-h", "--help") for word in rest):
        print(usage_of(verb))
        return 0
    if verb == "list":
        if rest:
            raise ConfigError(f"cifrun list takes nothing more, but got '{rest[0]}'")
        print(catalogue())
        return 0
    if verb == "report":
        return _report(rest)
    if verb == "data":
        rest = _dataset_to_fetch(rest)
    from .hydra_app import compose

    return compose(verb, rest)


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line `argv` says; the exit code, 0 or, with a sentence on stderr, 2."""
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    except CifrunError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exception(error)
        else:
            print(f"cifrun: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        mute()
        return 0
