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
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import FunctionType
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass
from typing_extensions import dataclass_transform

from ..registry import Registry

__all__ = ["MOST", "NAMED", "STRICT", "Role", "Setting", "Sizes", "UserPath", "registered", "setting", "settings"]

T = TypeVar("T")

#: Every config dataclass refuses unknown keys, and numbers that are not finite.
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)


def _named(path: Any) -> Any:
    if path == "":  # which would be the current directory
        raise ValueError("a path, and no empty text")
    return path


#: For a path: no empty text.
NAMED = BeforeValidator(_named)

#: A path in which ~ is the home directory: not every shell puts it there in KEY=~/FILE.
UserPath = Annotated[Path, NAMED, AfterValidator(lambda path: Path(os.path.expanduser(path)))]

#: The largest whole number and the largest real one that a setting may be, unless it says another: what is larger is a
#: slip, or does harm.
MOST, HIGHEST = 2**31 - 1, 1e30

#: Sizes of the hidden layers of a network.
Sizes = Annotated[list[Annotated[int, Field(ge=1, le=2**16)]], Field(max_length=64)]


class Role(Enum):
    """What a setting decides, and so whether two runs that differ in it are the same run, or one repeated."""

    TRAINED = "what is trained: runs that differ in it are different"
    DATA = "what the data are: numbers of runs that differ in it can't be compared"
    LENGTH = "how long it is trained: runs that differ in it are different, but one can be extended"
    REPETITION = "which repetition: runs that differ in it alone are averaged"
    MEASUREMENT = "how the result is measured"
    EXECUTION = "where and how it runs, or what is shown: it changes no result"
    COMMAND = "what belongs to one command, and is not kept"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of one setting.

    Arguments:
        name: The dotted name that a user types.
        default: Its value if nobody types one; None also if there is no default.
        role: What it decides.
        schema: Its JSON schema, from pydantic, with its `description`, its `unit`, and in `follows` the top-level
            setting whose value it takes in `conf/`.
    """

    name: str
    default: Any
    role: Role
    schema: Mapping[str, Any]

    @property
    def composed(self) -> Any:
        """What `conf/` holds for it: its default, or the top-level setting that it follows."""
        follows = self.schema.get("follows")
        return f"${{{follows}}}" if follows else self.default

    @property
    def type(self) -> str:
        """Its type in words: "integer or 'all'"."""
        return _type(self.schema)

    def misreads(self, value: Any) -> bool:
        """Whether a value would be taken for what it is not: true for the number 1, or 1.0 for true."""
        kinds = {part.get("type") for part in _parts(self.schema)}
        if "boolean" not in kinds:
            return any(isinstance(entry, bool) for entry in (value if isinstance(value, list) else [value]))
        if isinstance(value, str):
            return value not in self.choices
        return type(value) in (int, float) and not kinds & {"integer", "number"}

    @property
    def is_path(self) -> bool:
        """Whether it names a file or a folder."""
        return any(part.get("format") == "path" for part in _parts(self.schema))

    @property
    def range(self) -> str:
        """The values allowed, beyond the type: "≥ 1"; "" for all of them."""
        parts = (
            (text, part[key])
            for part in _parts(self.schema)
            for key, text in _BOUNDS.items()
            if part.get(key, MOST) not in (MOST, HIGHEST)
        )
        return ", ".join(text.format(int(x) if isinstance(x, float) and x.is_integer() else x) for text, x in parts)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words allowed; empty if any value of the type is."""
        parts = list(_parts(self.schema))
        words = [word for part in parts for word in _words(part)]
        return tuple(["true", "false", *words] if words and {"type": "boolean"} in parts else words)

    @property
    def comment(self) -> str:
        """The meaning, and the unit and the choices unless the meaning names them: a line for people to read.

        What belongs to some commands only begins with their names.
        """
        meaning, unit = self.schema.get("description", ""), self.schema.get("unit")
        if self.role is Role.COMMAND:
            meaning = f"{', '.join(self.schema['may_change'])}: {meaning}"

        def named(word: str) -> bool:
            return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", meaning) is not None

        text = meaning if unit is None or named(unit) else f"{meaning} [{unit}]"
        *most, last = self.choices or ("",)
        return text if all(map(named, self.choices)) else f"{text}: {', '.join(most)} or {last}"


#: What JSON calls a type, where people have another word.
_TYPES = {"boolean": "true or false", "string": "text", "object": "mapping"}
_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "pattern": "matching {}",
    "minLength": "at least {} long",
    "maxLength": "at most {} long",
    "maxItems": "at most {} long",
}


def _parts(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A schema, its alternatives, and the schemas of items."""
    yield schema
    for part in (*schema.get("anyOf", ()), schema.get("items"), schema.get("additionalProperties")):
        if isinstance(part, Mapping):
            yield from _parts(part)


def _words(schema: Mapping[str, Any]) -> list[Any]:
    """The words that a literal type allows."""
    return schema.get("enum", [schema["const"]] if "const" in schema else [])


def _type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if words := _words(schema):
        return " or ".join(map(repr, words))
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    kind = schema.get("format") or schema.get("type", "any")
    return _TYPES.get(kind, kind)


@dataclass_transform()
def registered(registry: Registry, name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: settings that a user picks by `name`, as `flow=NAME`.

    ```python
    @registered(FLOWS, "maf")
    class MAF(FlowConfig): ...
    ```
    """

    def decorate(cls: type[T]) -> type[T]:
        made: Any = dataclass(config=STRICT)(cls)
        return registry.register(name)(made)

    return decorate


def setting(
    default: Any,
    meaning: str,
    *,
    unit: str | None = None,
    role: Role | None = None,
    may_change: Sequence[str] = (),
    follows: str | None = None,
    **constraints: Any,
) -> Any:
    """A field of a config dataclass.

    Arguments:
        default: Its value if nobody gives one; of a group of settings, the dataclass itself, or a function
            that makes one; `...` for none.
        meaning: What it means, as a phrase in lower case.
        unit: Its unit, as in "steps".
        role: What it decides; without one, as the group it is in, and at the top `Role.TRAINED`.
        may_change: Of the fields of `Config`: the verbs that may change it in a run that exists.
        follows: The top-level setting whose value it takes in `conf/`.
        constraints: Its range, as in pydantic's `Field`: `ge`, `gt`, `le`, `lt`, `pattern`, …
    """
    more: dict[str, Any] = {"unit": unit, "role": role and role.name, "follows": follows}
    more["may_change"] = list(may_change)
    if constraints.keys() & {"ge", "gt"} and not constraints.keys() & {"le", "lt"}:
        constraints["le"] = HIGHEST if "gt" in constraints or type(default) is float else MOST
    if isinstance(default, type | FunctionType):
        constraints["default_factory"] = default
    elif isinstance(default, list | dict):
        constraints["default_factory"] = default.copy
    else:
        constraints["default"] = default
    return Field(description=meaning, json_schema_extra=more, **constraints)


def settings(cls: Any, prefix: str = "", role: Role = Role.TRAINED) -> Iterator[Setting]:
    """The settings that a config dataclass holds, those of its groups among them, in the order of its fields."""
    schemas = TypeAdapter(cls).json_schema()["properties"]
    for key, field in cls.__pydantic_fields__.items():
        name = f"{prefix}.{key}" if prefix else key
        own = Role[schemas[key]["role"]] if schemas[key].get("role") else role
        if dataclasses.is_dataclass(field.annotation):
            yield from settings(field.annotation, name, own)
        else:
            make: Any = field.default_factory
            default = None if field.is_required() else field.default if make is None else make()
            yield Setting(name, default, own, schemas[key])
