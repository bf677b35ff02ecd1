"""What `cifrun --help` and `cifrun VERB --help` say. It costs nothing: no torch, pydantic or Hydra is imported.

What verbs do stands in `help.yaml` beside this file. What a key means is the comment beside it under `conf/`, which is
made from the config dataclasses.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from .config_groups import conf_dir, groups

__all__ = ["VERBS", "catalogue", "usage", "usage_of"]


class Verb(NamedTuple):
    """What `help.yaml` says of a verb."""

    summary: str
    details: str
    keys: str
    examples: list[str]


_TEXT = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a tenth of the time
VERBS = {name: Verb(**verb) for name, verb in yaml.load(_TEXT, _LOADER).items()}

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
        if placeholder == "CHOICES":
            placeholder = "|".join(groups()[group])
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
    # Here it need not be said again to which verbs a key belongs.
    keys = {key: re.sub(rf"^(({'|'.join(VERBS)})(, )?)+: ", "", text) for key, text in _keys(verb.keys).items()}
    options = (
        {"--watch": "until no run is under way"} if name == "report" else {} if name in ("list", "data") else HYDRA
    )
    sections = [
        f"cifrun {name}: {verb.summary}",
        textwrap.fill(verb.details, 100),
        _section("keys (cifrun --help lists more)", keys, 30) if keys else "",
        _groups() if name in ("train", "show") else "",
        _section("options", options, 14) if options else "",
        _examples(verb),
    ]
    return "\n\n".join(filter(None, sections))


def catalogue() -> str:
    """The text of `cifrun list`: a line for each dataset, flow and base."""
    from ..registry import CLASSES

    blocks = []
    for registry in CLASSES:
        lines = [f"  {name:20}{summary}" for name, summary in registry.describe().items()]
        lines += [f"  {name:20}{sentence}" for name, sentence in registry.broken().items()]
        blocks.append("\n".join([f"{registry.noun}s ({registry.noun}=NAME)", *lines]))
    return "\n\n".join(blocks)
