"""What `cifrun --help` and `cifrun VERB --help` say. It costs nothing: no torch, pydantic or Hydra is imported.

What a key means is the comment that stands beside it under `conf/`, which is made from the config dataclasses.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from .config_groups import conf_dir, groups

__all__ = ["VERBS", "catalogue", "usage", "usage_of"]


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
            *("dataset", "dataset.path:file", "flow", "flow.depth", "cif", "index.dim", "index.depth"),
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
        ("dataset.root:power",),
        ("cifrun data fetch power", "cifrun data fetch mnist dataset.root=/data/images"),
    ),
}

#: The keys that help shows, and what stands for their values; None: the default. After a colon stands the file of the
#: group that has the key, if the default one has not.
KEYS: dict[str, str | None] = {
    "dataset": "NAME",
    "dataset.path:file": "FILE",
    "flow": "NAME",
    "flow.depth": None,
    "cif": "true|false",
    "index.dim": None,
    "index.depth": None,
    "objective": "elbo|iwae",
    "optimizer.lr": None,
    "trainer.max_steps": None,
    "trainer.batch_size": None,
    "seed": None,
    "device": "auto|cpu|gpu",
    "experiment": "NAME",
    "debug": "tiny",
    "run": "DIR",
    "resume": "DIR",
    "eval.importance_samples": None,
    "eval.chunk_size": None,
    "eval.seed": None,
    "n": None,
    "output": "FILE",
    "report.output": None,
    "data": "FILE",
    "per_point": "FILE",
    "dataset.root:power": "DIR",
}

#: A key that is no setting.
REPORT_OUTPUT = ("output=DIR", "report: where it writes its four files")

HYDRA = {
    "-m": "a job for each combination of values that commas separate: seed=1,2,3",
    "--cfg job": "print the composed config instead (--resolve: with its interpolations worked out)",
    "--info": "print where configs are searched for, and plugins",
    "-cd DIR": "look for configs in DIR too: DIR/experiment/mine.yaml is experiment=mine",
    "-sc": 'eval "$(cifrun -sc install=bash)" lets TAB complete verbs, groups and keys',
}


# --- what conf/ says --------------------------------------------------------------------------------------------------


def _lines(text: str) -> dict[str, tuple[str, str]]:
    """The keys of a YAML file's first level and of its defaults list, each with its value and its comment."""
    found: dict[str, tuple[str, str]] = {}
    key = ""
    for line in text.partition("\nhydra:")[0].splitlines():
        if match := re.match(r"(?:  - )?(\w+): (.*?) *(?:# (.*))?$", line):
            key, value, comment = match.groups()
            found[key] = value, comment or ""
        elif key and (match := re.match(r" +# (.*)$", line)):  # the comment goes on
            found[key] = found[key][0], f"{found[key][1]} {match[1]}"
    return found


def _keys(names: Iterable[str]) -> dict[str, str]:
    """KEY=VALUE and its meaning, for keys of `KEYS`."""
    top = _lines((conf_dir() / "config.yaml").read_text(encoding="utf-8"))
    shown: dict[str, str] = {}
    for name in names:
        if name == "report.output":
            shown |= [REPORT_OUTPUT]
            continue
        key, _, choice = name.partition(":")
        group, dot, rest = key.partition(".")
        value, comment = top[group]
        if dot:
            file = conf_dir() / group / f"{choice or value}.yaml"
            value, comment = _lines(file.read_text(encoding="utf-8"))[rest]
        shown[f"{key}={KEYS[name] or value}"] = comment
    return shown


# --- the texts -------------------------------------------------------------------------------------------------------


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
{_table(_keys(KEYS), 30)}

options
{_table(HYDRA, 14)}

examples
{chr(10).join(f"  {example}" for verb in VERBS.values() for example in verb.examples)}"""


def usage_of(name: str) -> str:
    """The text of `cifrun VERB --help`."""
    verb = VERBS[name]
    parts = [f"cifrun {name}: {verb.summary}\n", textwrap.fill(verb.details, 100)]
    if verb.keys:
        parts += ["\nkeys (cifrun --help lists more)", _table(_keys(verb.keys), 30)]
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
