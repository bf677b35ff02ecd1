"""One definition of a setting: its type, range, meaning and unit, and whether it defines a run.

A config dataclass says all of this once, with `setting`:

    @dataclass(config=STRICT)
    class TrainerConfig:
        log_every: int = setting(10, "steps between lines of metrics", unit="steps", role=Role.EXECUTION, ge=1)

`settings` reads it back: the YAML under `conf/`, the help and the report are made from what it gives.
"""

from __future__ import annotations

import dataclasses
import os
import re
import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

__all__ = ["STRICT", "Role", "Setting", "Sizes", "UserPath", "Verb", "setting", "settings"]

#: Every config dataclass refuses unknown keys, and numbers that are not finite.
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)

#: A path in which ~ is the home directory: not every shell puts it there in KEY=~/FILE.
UserPath = Annotated[Path, AfterValidator(lambda path: Path(os.path.expanduser(path)))]

#: Sizes of the hidden layers of a network.
Sizes = Annotated[list[Annotated[int, Field(ge=1)]], Field(max_length=64)]

#: What takes a run that exists, and may change some of its settings.
Verb = Literal["eval", "sample", "resume"]


class Role(Enum):
    """What a setting decides, and so whether two runs that differ in it are the same run, or one repeated."""

    TRAINED = "what is trained: runs that differ in it are different"
    REPETITION = "which repetition: runs that differ in it alone are averaged"
    MEASUREMENT = "how the result is measured"
    EXECUTION = "where and how it runs, or what is shown: it changes no result"
    COMMAND = "what belongs to one command, and is not kept"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of one setting.

    Arguments:
        name: The dotted name that a user types.
        type: Its type in words.
        default: Its value if nobody types one; None also if there is no default.
        meaning: A phrase in lower case.
        unit: Of a number that has one.
        range: The values allowed, beyond the type; "" for all of them.
        choices: The words allowed; empty if any value of the type is.
        role: What it decides.
        may_change: The verbs that may change it in a run that exists; of a key of a group, those of the group.
        follows: The top-level setting whose value it takes in `conf/`, instead of the default.
    """

    name: str
    type: str
    default: Any
    meaning: str
    unit: str | None
    range: str
    choices: tuple[str, ...]
    role: Role
    may_change: tuple[Verb, ...]
    follows: str | None

    @property
    def comment(self) -> str:
        """The meaning, and the unit and the choices unless the meaning names them: a line for people to read."""

        def named(word: str) -> bool:
            return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", self.meaning) is not None

        text = self.meaning if self.unit is None or named(self.unit) else f"{self.meaning} [{self.unit}]"
        *most, last = self.choices or ("",)
        return text if all(map(named, self.choices)) else f"{text}: {', '.join(most)} or {last}"


def setting(
    default: Any,
    meaning: str,
    *,
    unit: str | None = None,
    role: Role | None = None,
    may_change: tuple[Verb, ...] = (),
    follows: str | None = None,
    **constraints: Any,
) -> Any:
    """A field of a config dataclass.

    Arguments:
        default: Its value if nobody gives one; of a group of settings, the dataclass itself; `...` for none.
        meaning: What it means, as a phrase in lower case.
        unit: Its unit, as in "steps".
        role: What it decides; without one, as the group it is in, and at the top `Role.TRAINED`.
        may_change: The verbs that may change it in a run that exists: of the fields of `Config` only.
        follows: The top-level setting whose value it takes in `conf/`.
        constraints: Its range, as in pydantic's `Field`: `ge`, `gt`, `le`, `lt`, `pattern`, …
    """
    more: dict[str, Any] = {
        "unit": unit,
        "role": role and role.name,
        "may_change": list(may_change),
        "follows": follows,
    }
    given: dict[str, Any] = {"default": default}
    if isinstance(default, type):
        given = {"default_factory": default}
    elif isinstance(default, list | dict):
        given = {"default_factory": lambda: default.copy()}
    return Field(description=meaning, json_schema_extra=more, **given, **constraints)


def settings(cls: type, prefix: str = "") -> Iterator[Setting]:
    """The settings that a config dataclass holds, those of its groups among them, in the order of its fields."""
    yield from _settings(cls, f"{prefix}." if prefix else "", Role.TRAINED, ())


def _settings(cls: Any, prefix: str, role: Role, may_change: tuple[Verb, ...]) -> Iterator[Setting]:
    fields: dict[str, FieldInfo] = cls.__pydantic_fields__
    for key, field in fields.items():
        more: Any = field.json_schema_extra or {}
        own = Role[more["role"]] if more.get("role") else role
        verbs = tuple(more.get("may_change", ())) or may_change
        kind: Any = field.annotation
        if dataclasses.is_dataclass(kind):
            yield from _settings(kind, f"{prefix}{key}.", own, verbs)
            continue
        yield Setting(
            name=f"{prefix}{key}",
            type=_type(kind),
            default=None if field.is_required() else field.get_default(call_default_factory=True),
            meaning=field.description or "",
            unit=more.get("unit"),
            range=", ".join(dict.fromkeys([*_bounds(field.metadata), *_bounds([kind])])),
            choices=_choices(kind),
            role=own,
            may_change=verbs,
            follows=more.get("follows"),
        )


_WORDS = {int: "integer", float: "number", bool: "true or false", str: "text", Path: "path", type(None): "null"}
_SIGNS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "pattern": "matching {}"}
_LENGTHS = {"min_length": "at least {} long", "max_length": "at most {} long"}


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _type(kind: Any) -> str:
    """A type in words: "integer or 'all'"."""
    if get_origin(kind) is Annotated:
        return _type(get_args(kind)[0])
    if _is_union(kind):
        return " or ".join(_type(part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return " or ".join(repr(choice) for choice in get_args(kind))
    if get_origin(kind) is list:
        return f"list of {_type(get_args(kind)[0])}"
    return "mapping" if get_origin(kind) is dict else _WORDS.get(kind, getattr(kind, "__name__", "any"))


def _bounds(parts: Any) -> Iterator[str]:
    """The ranges that metadata, or the annotations within a type, say: "≥ 1"."""
    for part in parts:
        if isinstance(part, FieldInfo):
            yield from _bounds(part.metadata)
            continue
        for name, text in {**_SIGNS, **_LENGTHS}.items():
            if (value := getattr(part, name, None)) is not None:
                yield text.format(value)
        if get_origin(part) is Annotated:
            yield from _bounds(part.__metadata__)
        if get_origin(part) is not Literal:
            yield from _bounds(get_args(part)[:1] if get_origin(part) is Annotated else get_args(part))


def _choices(kind: Any) -> tuple[str, ...]:
    """The words that a type allows: all of a literal, and true and false beside them."""
    if get_origin(kind) is Annotated:
        return _choices(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return tuple(str(choice) for choice in get_args(kind))
    if not _is_union(kind):
        return ()
    words = tuple(word for part in get_args(kind) for word in _choices(part))
    return ("true", "false", *words) if words and bool in get_args(kind) else words
