"""Write the pages of the documentation that are made from the code.

python scripts/make_docs.py            # write what differs, and say which files these are
python scripts/make_docs.py --check    # write nothing; the exit code is 1 if a file differs

docs/metrics.md comes from the table of metrics, docs/reference/configuration.md from the config dataclasses and the
presets under conf/, docs/reference/command-line.md from the texts of --help.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from cifrun.cli.help import VERBS, usage, usage_of
from cifrun.config.fields import Role, Setting, settings
from cifrun.config.schema import Config
from cifrun.registry import BASES, DATASETS, FLOWS, Registry
from cifrun.runs.metrics import HEADLINE, PICTURES, THEMES, Metric

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
CONF = ROOT / "conf"

METRICS = """# Every metric

<!-- Made from cifrun/runs/metrics.yaml by python scripts/make_docs.py: change them there. -->

[Diagnostics](diagnostics.md) has the formulas, and how to read the numbers.

A name is a key of `summary.json` under "test". In `metrics.jsonl` and TensorBoard it follows the name of a group:

- `train/`: a batch;
- `valid/`: the validation set;
- `diagnostics/`: the test set, during training;
- `test/`: the test set, with the best weights;
- `best/`: of those the first again, so that it stands first on the page HPARAMS; in TensorBoard are {headline}.

↑ means that more is better, ↓ that less is. A number marked CIF says something of continuously indexed flows only, one
marked images of images, and one marked targets of data whose density is known.

{themes}

A name that ends in `_se` is the standard error of the number before it. One that ends in `_q999` is what all but one
point in a thousand stay below, where that number is a maximum. `mass of PIECE` is the share of the model's mass that is
in a piece of the target.

## Pictures

They are in `figures/` and in TensorBoard.

{pictures}
"""


CONFIGURATION = """# Every key

<!-- Made from the config dataclasses by python scripts/make_docs.py: change them there. -->

Type a key as `GROUP.KEY=VALUE`: `cifrun train flow.depth=4`. Type a group as `GROUP=NAME`: it picks a file under
`conf/`, which sets all keys of the group. Type a list as `'flow.hidden=[64,64]'`, and no value as `null`.
[Choose settings](../how-to/settings.md) says how presets and the command line go together.

## The top level

{top}

{groups}

## Datasets

`dataset=NAME` picks one. `cifrun list` has a line on each.

{datasets}

## Flows

`flow=NAME` picks one. Each has the key `flow.norm`:

{norm}

{flows}

## Base densities

`base=NAME` picks p_0, the density of z_0.

{bases}

## Presets

`experiment=NAME` picks one. It overrides the groups, and the command line overrides it. Pick the data, and the plain
flow or its CIF, beside it: `cifrun train -m experiment=two_d_maf dataset=two_uniforms,rings cif=true,false seed=1,2,3`.
`debug=tiny` makes everything small: a run takes seconds.

{presets}

## Engines of sweeps

`hydra/launcher=NAME` picks one, with `-m`. [Clusters](../clusters.md) says when to take which.

{launchers}

## What a key decides

A key decides one of five things. The report, `sweep.name` and `resume` go by it. All keys that are not in this list
decide what is trained: runs that differ in one of them are different runs.

{roles}
"""

COMMAND_LINE = """# The command line

<!-- Made from the texts of --help by python scripts/make_docs.py. -->

    cifrun VERB [KEY=VALUE …] [OPTION …]

A verb is one of {verbs}. `cifrun --help` lists verbs, groups and keys; `cifrun VERB --help` says more of a verb, as
below. [Every key](configuration.md) says what each key means.

The exit code is 0, or 2 with one sentence on stderr: a wrong name, type or range is told with the key, the value and
what is allowed. A sweep ends with 2 if a job failed. After Ctrl-C it is 130. `HYDRA_FULL_ERROR=1` prints the traceback
as well.

{all}
"""

#: What datasets of each package are called.
KINDS = {
    "cifrun.data.targets": "Targets in the plane",
    "cifrun.data.tables": "Tables",
    "cifrun.data.images": "Images",
}


def metrics_page() -> str:
    """docs/metrics.md."""
    themes = (
        f"## {theme.name.capitalize()}\n\n{theme.hint}\n\n{_numbers(theme.metrics)}"
        for theme in THEMES
        if theme.metrics
    )
    return METRICS.format(
        headline=", ".join(f"`{name}`" for name in HEADLINE),
        themes="\n\n".join(themes),
        pictures=_table(("name", "what it shows"), ((f"`{name}`", text) for name, text in PICTURES.items())),
    )


def configuration_page() -> str:
    """docs/reference/configuration.md."""
    top: list[Setting] = []
    groups: dict[str, list[Setting]] = {}
    for field in settings(Config):
        group, _, key = field.name.partition(".")
        if not key:
            top.append(field)
        elif group not in ("dataset", "flow", "base"):
            groups.setdefault(group, []).append(field)
    sections = [_group(name, fields) for name, fields in groups.items()]
    return CONFIGURATION.format(
        top=_keys(top),
        groups="\n\n".join(sections),
        datasets="\n\n".join(_datasets(package, title) for package, title in KINDS.items()),
        norm=_keys([field for field in settings(Config) if field.name == "flow.norm"]),
        flows="\n\n".join(_flow(name) for name in _own(FLOWS)),
        bases="\n\n".join(_base(name) for name in _own(BASES)),
        presets=_headers("experiment"),
        launchers=_headers("hydra/launcher"),
        roles=_roles(),
    )


def command_line_page() -> str:
    """docs/reference/command-line.md."""
    texts = {"cifrun": usage()} | {f"cifrun {verb}": usage_of(verb) for verb in VERBS}
    sections = (f"## {name}\n\n```text\n{text}\n```" for name, text in texts.items())
    return COMMAND_LINE.format(verbs=", ".join(f"`{verb}`" for verb in VERBS), all="\n\n".join(sections))


#: The pages, and what makes each.
PAGES = {
    "metrics.md": metrics_page,
    "reference/configuration.md": configuration_page,
    "reference/command-line.md": command_line_page,
}


# --- the parts of the page of all keys --------------------------------------------------------------------------------


def _keys(fields: Iterable[Setting], prefix: str = "") -> str:
    """A row for each setting."""
    rows = ((f"`{prefix}{field.name}`", _kind(field), _value(field.default), _meaning(field)) for field in fields)
    return _table(("key", "type and range", "default", "meaning"), rows)


def _kind(field: Setting) -> str:
    words = re.sub(r"'([^']*)'", r"`\1`", field.type.replace("null", "`null`"))
    unit = field.schema.get("unit")
    return ", ".join(filter(None, [words, field.range.replace("4294967296", "2³²"), unit and f"in {unit}"]))


def _value(value: Any) -> str:
    if value == "":
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"


def _meaning(field: Setting) -> str:
    verbs = ", ".join(f"`{verb}`" for verb in field.schema.get("may_change") or ())
    return f"{verbs}: {field.schema['description']}" if field.role is Role.COMMAND else field.schema["description"]


def _choices(group: str) -> dict[str, Path]:
    return {file.stem: file for file in sorted((CONF / group).glob("*.yaml"))}


def _header(file: Path) -> str:
    """The comment at the top of a YAML file."""
    text = file.read_text(encoding="utf-8").removeprefix("# @package _global_\n")
    lines = re.match(r"(?:#.*\n)*", text)
    words = " ".join(line.lstrip("# ") for line in (lines[0] if lines else "").splitlines())
    words = re.sub(r" (Pick the [^:]*:|) ?`cifrun train[^`]*`\.$", "", words)
    return re.sub(r"(pip install '[^']*')", r"`\1`", words)


def _headers(group: str) -> str:
    """A row for each choice of a group that is written by hand."""
    rows = ((f"`{name}`", _header(file)) for name, file in _choices(group).items())
    return _table((f"`{group}=`", "what it is"), rows)


def _values(file: Path) -> dict[str, Any]:
    """What a file of a group sets, over what the files beside it that it names as its defaults set."""
    own = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    values: dict[str, Any] = {}
    for other in own.pop("defaults", ()):
        values |= _values(file.with_name(f"{other}.yaml"))
    return values | own


def _group(name: str, fields: Sequence[Setting]) -> str:
    """A section: what the group is, its keys, and the values that its other choices have."""
    about: str = Config.__pydantic_fields__[name].description  # type: ignore[attr-defined]
    text = f"## `{name}`\n\n{about[:1].upper() if about[1:2].isalpha() else about[:1]}{about[1:]}.\n\n{_keys(fields)}"
    rows = []
    for choice, file in _choices(name).items():
        values = _values(file)
        defaults = {field.name.partition(".")[2]: field.default for field in fields}
        other = [
            f"`{key}: {_value(value)[1:-1]}`"
            for key, value in values.items()
            if key in defaults and defaults[key] != value
        ]
        rows.append((f"`{name}={choice}`", _header(file), ", ".join(other)))
    return text if len(rows) == 1 else f"{text}\n\n{_table(('choice', 'what it is', 'what it sets'), rows)}"


def _own(registry: Registry) -> list[str]:
    """The names that this package registers, without those of other packages."""
    return [name for name in registry if registry[name].__module__.startswith("cifrun.")]


def _datasets(package: str, title: str) -> str:
    """A section: the datasets of a package, the keys that all of them have, and those of some."""
    names = [name for name in _own(DATASETS) if DATASETS[name].__module__.startswith(package)]
    having: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        for field in settings(DATASETS[name]):
            if field.name != "name":
                row = (f"`dataset.{field.name}`", _kind(field), _value(field.default), _meaning(field))
                having.setdefault(row, []).append(name)
    shared = [row for row, of in having.items() if of == names]
    some = [(", ".join(f"`{name}`" for name in of), *row) for row, of in having.items() if of != names]
    listed = "\n".join(f"- `{name}`: {DATASETS.describe()[name]}" for name in names)
    header = ("key", "type and range", "default", "meaning")
    parts = [f"### {title}\n\n{listed}", "All of them have these keys:", _table(header, shared)]
    return "\n\n".join([*parts, "And some have these:", _table(("of", *header), some)])


def _flow(name: str) -> str:
    """A section: a flow and its keys."""
    fields = [field for field in settings(FLOWS[name]) if field.name not in ("family", "norm")]
    norm = next(field.default for field in settings(FLOWS[name]) if field.name == "norm")
    text = f"### `{name}`\n\n{FLOWS.describe()[name]}\n\n{_keys(fields, 'flow.')}"
    return text if norm == "none" else f"{text}\n\nHere `flow.norm` is `{norm}` by default."


def _base(name: str) -> str:
    """A section: a base density and its keys."""
    fields = [field for field in settings(BASES[name]) if field.name != BASES.key]
    return "\n\n".join([f"### `{name}`", BASES.describe()[name], *([_keys(fields, "base.")] if fields else [])])


def _roles() -> str:
    """What each role is, and which keys have it."""
    found: dict[Role, list[str]] = {}
    for field in settings(Config):
        found.setdefault(field.role, []).append(f"`{field.name}`")
    for name in _own(DATASETS):
        for field in settings(DATASETS[name], "dataset", Role.DATA):
            if f"`{field.name}`" not in found.setdefault(field.role, []):
                found[field.role].append(f"`{field.name}`")
    rows = [(role.value.partition(":")[0], ", ".join(found[role])) for role in Role if role is not Role.TRAINED]
    return _table(("what the key decides", "keys"), ((about[:1].upper() + about[1:], keys) for about, keys in rows))


# --- tables -----------------------------------------------------------------------------------------------------------


def _numbers(metrics: Iterable[Metric]) -> str:
    rows = []
    for metric in metrics:
        marks = [metric.unit, {1: "↑", -1: "↓", 0: ""}[metric.better], metric.of]
        rows.append((f"`{metric.name}`", metric.meaning, " ".join(filter(None, marks))))
    return _table(("name", "what it is", "unit and marks"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file differs")
    check = parser.parse_args().check
    different = 0
    for name, make in PAGES.items():
        file, text = DOCS / name, make()
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            different += 1
            if not check:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            print(f"docs/{name} {'is not up to date: run scripts/make_docs.py' if check else 'written'}")
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main())
