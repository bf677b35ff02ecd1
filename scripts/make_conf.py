#!/usr/bin/env python
"""Make the YAML of defaults under conf/ from the config dataclasses: keys, values, and what each one means.

    python scripts/make_conf.py            # write what differs, and say which files these are
    python scripts/make_conf.py --check    # write nothing; the exit code is 1 if a file differs

A setting's meaning is written once, where its dataclass defines it. Presets (`experiment/`, `debug/`, `device/cpu`, …),
launchers, and the defaults list and Hydra's settings in `conf/config.yaml` are written by hand. So are files of other
names.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from cifrun.config.fields import Setting, settings
from cifrun.config.schema import (
    Config,
    DeviceConfig,
    DiagnosticsConfig,
    EvalConfig,
    IndexConfig,
    ObjectiveConfig,
    OptimizerConfig,
    SweepConfig,
    TrainerConfig,
)
from cifrun.registry import CLASSES, OBJECTIVES, OPTIMIZERS

CONF = Path(__file__).resolve().parents[1] / "conf"
WIDTH = 120
#: A longer `key: value` does not push the comments of its neighbours to the right.
LONG = 32

#: The files of groups that are one dataclass. Other files there choose other values, and are written by hand.
FILES: dict[str, type] = {
    "index/default": IndexConfig,
    "trainer/default": TrainerConfig,
    "eval/default": EvalConfig,
    "diagnostics/default": DiagnosticsConfig,
    "device/auto": DeviceConfig,
    "sweep/default": SweepConfig,
}


def made() -> dict[str, str]:
    """The text of each file that is made, by its path below conf/."""
    texts = {name: body(cls.__doc__ or "", settings(cls), {}) for name, cls in FILES.items()}
    for registry, cls in ((OBJECTIVES, ObjectiveConfig), (OPTIMIZERS, OptimizerConfig)):
        for choice, header in registry.describe().items():
            values = {"name": choice, **registry.values(choice)}
            texts[f"{registry.noun}/{choice}"] = body(header, settings(cls), values, silent="name")
    for registry in CLASSES:
        for choice, header in registry.describe().items():
            if not registry[choice].__module__.startswith("cifrun."):  # of another package
                continue
            header = re.sub(r"\bfetched\b", f"cifrun data fetch {choice}", header)
            chosen = getattr(registry[choice], "chooses", "")
            texts[f"{registry.noun}/{choice}"] = body(
                header, settings(registry[choice]), {registry.key: choice}, registry.key, chosen
            )
    return {f"{name}.yaml": text for name, text in texts.items()} | {"config.yaml": table_of_contents()}


def body(header: str, fields: Iterator[Setting], values: Mapping[str, Any], silent: str = "", chosen: str = "") -> str:
    """A file: its header, what it chooses in other groups, and a line for each key; of the key `silent` no comment."""
    first = textwrap.fill(" ".join(header.split("\n\n")[0].split()).removesuffix("."), WIDTH - 2)
    chosen = f"defaults:\n  - {chosen}\n\n" if chosen else ""
    rows = [
        (field.name, values.get(field.name, field.composed), field.comment if field.name != silent else "")
        for field in fields
    ]
    return f"{textwrap.indent(first, '# ')}\n{chosen}{lines(rows)}"


def lines(rows: list[tuple[str, Any, str]]) -> str:
    """A line `key: value # comment` for each row, comments one below the other, long ones on several lines."""
    starts = [
        f"{key}:" if isinstance(value, dict) and value else f"{key}: {flow_style(value)}" for key, value, _ in rows
    ]
    told = [len(start) for start, row in zip(starts, rows, strict=True) if row[2] and len(start) <= LONG]
    column = 1 + max(told, default=0)
    text = ""
    for start, (_, value, comment) in zip(starts, rows, strict=True):
        here = max(column, len(start) + 1)
        first, *more = textwrap.wrap(comment, WIDTH - 2 - here, break_on_hyphens=False) or [""]
        text += f"{start:{here}}# {first}\n" if first else f"{start}\n"
        text += "".join(f"{'':{here}}# {part}\n" for part in more)
        if isinstance(value, dict) and value:
            text += "".join(f"  {key}: {flow_style(inner)}\n" for key, inner in value.items())
    return text


def flow_style(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def table_of_contents() -> str:
    """`config.yaml` with its top-level keys, and the comments of its groups, as `Config` defines them."""
    text = (CONF / "config.yaml").read_text(encoding="utf-8")
    for group, field in Config.__pydantic_fields__.items():  # type: ignore[attr-defined]
        text = re.sub(rf"(?m)^(  - {group}: \w+) #.*$", lambda line: f"{line[1]} # {field.description}", text)  # noqa: B023
    top = [(field.name, field.default, field.comment) for field in settings(Config) if "." not in field.name]
    return re.sub(rf"(?ms)^{top[0][0]}:.*?(?=^\n)", lambda _: lines(top), text)


def main() -> int:
    """Write the files that differ, or say which do."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file differs")
    check = parser.parse_args().check
    stale = [name for name, text in made().items() if not same(name, text)]
    for name in stale:
        print(f"conf/{name} {'is not up to date: run scripts/make_conf.py' if check else 'written'}")
        if not check:
            (CONF / name).parent.mkdir(exist_ok=True)
            (CONF / name).write_text(made()[name], encoding="utf-8")
    return int(check and bool(stale))


def same(name: str, text: str) -> bool:
    """Whether the file is there and holds the text."""
    return (CONF / name).is_file() and (CONF / name).read_text(encoding="utf-8") == text


if __name__ == "__main__":
    raise SystemExit(main())
