"""What `cifrun --help` and `cifrun VERB --help` say. It costs nothing: no torch, pydantic or Hydra is imported.

What a key means is the comment that stands beside it under `conf/`, which is made from the config dataclasses.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import NamedTuple

from .config_groups import conf_dir, groups

__all__ = ["VERBS", "catalogue", "usage", "usage_of"]


class Verb(NamedTuple):
    """What help says of a verb.

    A key is KEY, to be shown with its default, or KEY=PLACEHOLDER. Before a colon stands the file of the group that has
    the key, if the default one has not.
    """

    summary: str
    details: str
    keys: str
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
        "dataset=NAME file:dataset.path=FILE flow=NAME flow.depth cif=true|false index.dim index.depth "
        "objective=elbo|iwae optimizer.lr trainer.max_steps trainer.batch_size seed device=auto|cpu|gpu "
        "experiment=NAME debug=tiny resume=DIR",
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
        "run=DIR data=FILE per_point=FILE eval.importance_samples eval.chunk_size eval.seed device=auto|cpu|gpu",
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
        "run=DIR n output=FILE seed device=auto|cpu|gpu",
        ("cifrun sample run=outputs/DATE/TIME n=10000 output=samples.npy",),
    ),
    "report": Verb(
        "compare many runs: means over seeds with their errors",
        "Finds all runs in and below the directories. Runs that differ in nothing but the seed are one row of the "
        "tables; those that are not complete are listed below. Writes report.md, report.csv, report.tex and "
        "report.html: a page with all pictures in it, to output=DIR, by default the folder report in the first "
        "directory. --watch prints the tables again every few seconds until no run is under way.",
        "report:output=DIR",
        ("cifrun report multirun/DATE/TIME", "cifrun report outputs multirun output=comparison --watch"),
    ),
    "show": Verb(
        "print the steps that a config builds, and train nothing",
        "Takes the same overrides as train.",
        "dataset=NAME flow=NAME flow.depth cif=true|false index.dim index.depth",
        ("cifrun show flow=maf index.depth=2",),
    ),
    "list": Verb("print the datasets and the flows", "Takes no overrides.", "", ("cifrun list",)),
    "data": Verb(
        "download a dataset: cifrun data fetch NAME",
        "Downloads what dataset=NAME reads from its public archive, checks it and unpacks it into dataset.root. A "
        "download that was cut off goes on where it stopped when the command is given again.",
        "power:dataset.root=DIR",
        ("cifrun data fetch power", "cifrun data fetch mnist dataset.root=/data/images"),
    ),
}

HYDRA = {
    "-m": "a job for each combination of values that commas separate: seed=1,2,3",
    "--cfg job": "print the composed config instead (--resolve: with its interpolations worked out)",
    "--info": "print where configs are searched for, and plugins",
    "-cd DIR": "look for configs in DIR too: DIR/experiment/mine.yaml is experiment=mine",
    "-sc": 'eval "$(cifrun -sc install=bash)" lets TAB complete verbs, groups and keys',
}


def _lines(file: str) -> dict[str, tuple[str, str]]:
    """The keys of a YAML file's first level and of its defaults list, each with its value and its comment."""
    text = (conf_dir() / f"{file}.yaml").read_text(encoding="utf-8")
    found: dict[str, tuple[str, str]] = {}
    key = ""
    for line in text.partition("\nhydra:")[0].splitlines():
        if match := re.match(r"(?:  - )?(\w+): (.*?) *(?:# (.*))?$", line):
            key, value, comment = match.groups()
            found[key] = value, comment or ""
        elif key and (match := re.match(r" +# (.*)$", line)):  # the comment goes on
            found[key] = found[key][0], f"{found[key][1]} {match[1]}"
    return found


def _keys(words: str) -> dict[str, str]:
    """KEY=VALUE and its meaning, for the keys of a verb."""
    shown: dict[str, str] = {}
    for word in words.split():
        file, _, rest = word.rpartition(":")
        key, _, placeholder = rest.partition("=")
        if file == "report":  # the one key that is no setting
            shown[f"{key}={placeholder}"] = "report: where it writes its four files"
            continue
        group, _, name = key.partition(".")
        value, comment = _lines("config")[group]
        if name:
            value, comment = _lines(f"{group}/{file or value}")[name]
        shown[f"{key}={placeholder or value}"] = comment
    return shown


def _section(title: str, rows: Mapping[str, str], width: int) -> str:
    lines = [title]
    for name, text in rows.items():
        first, *more = textwrap.wrap(text, 100 - width) or [""]
        lines += [f"  {name:{width}}{first}", *(f"  {'':{width}}{line}" for line in more)]
    return "\n".join(lines)


def _groups() -> str:
    choices = {name: ", ".join(options) for name, options in groups().items()}
    return _section("groups (GROUP=NAME picks, GROUP.KEY=VALUE changes one key)", choices, 16)


def _examples(*verbs: Verb) -> str:
    return "\n".join(["examples", *(f"  {example}" for verb in verbs for example in verb.examples)])


def usage() -> str:
    """The text of `cifrun --help`."""
    sections = [
        "cifrun: train and compare continuously indexed flows",
        "usage: cifrun VERB [KEY=VALUE …] [OPTION …]       cifrun VERB --help says more of a verb",
        _section("verbs", {name: verb.summary for name, verb in VERBS.items()}, 14),
        _groups(),
        _section("keys", _keys(" ".join(verb.keys for verb in VERBS.values())), 30),
        _section("options", HYDRA, 14),
        _examples(*VERBS.values()),
    ]
    return "\n\n".join(sections)


def usage_of(name: str) -> str:
    """The text of `cifrun VERB --help`."""
    verb = VERBS[name]
    options = {"--watch": "until no run is under way"} if name == "report" else HYDRA
    sections = [
        f"cifrun {name}: {verb.summary}",
        textwrap.fill(verb.details, 100),
        _section("keys (cifrun --help lists more)", _keys(verb.keys), 30) if verb.keys else "",
        _groups() if name in ("train", "show") else "",
        _section("options", options, 14),
        _examples(verb),
    ]
    return "\n\n".join(filter(None, sections))


def catalogue() -> str:
    """The text of `cifrun list`: a line for each dataset and each flow."""
    from ..registry import DATASETS, FLOWS

    blocks = []
    for registry in (DATASETS, FLOWS):
        lines = [f"  {name:20}{summary}" for name, summary in registry.describe().items()]
        lines += [f"  {name:20}{sentence}" for name, sentence in registry.broken().items()]
        blocks.append("\n".join([f"{registry.noun}s ({registry.noun}=NAME)", *lines]))
    return "\n\n".join(blocks)
