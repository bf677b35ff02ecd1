"""What pydantic finds wrong with a configuration, as one sentence in our words: the key, the value, what is allowed."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

from pydantic import ValidationError

from ..errors import did_you_mean

__all__ = ["Nested", "sentence"]


class Nested(ValueError):
    """The sentence of a `ConfigError` on its way through pydantic, which collects nothing but `ValueError`s."""


def sentence(error: ValidationError, cls: type, prefix: str) -> str:
    """The first thing pydantic found wrong; a key of this level comes before those of nested configs.

    Arguments:
        error: What pydantic raised.
        cls: The dataclass that it was to make.
        prefix: The dotted name of the group that the dataclass stands for; "" for the whole configuration.
    """
    details = error.errors(include_url=False)
    details.sort(key=lambda detail: isinstance(detail.get("ctx", {}).get("error"), Nested))
    first = details[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, Nested):  # already a sentence
        return str(cause)
    holder, keys = _place(first["loc"], cls)
    key = ".".join(filter(None, [prefix, *keys]))
    if first["type"] == "unexpected_keyword_argument":
        allowed = [field.name for field in dataclasses.fields(holder)]
        name = str(first["loc"][-1])
        key = ".".join(filter(None, [prefix, *map(str, first["loc"])]))
        near = did_you_mean(name, allowed).replace("mean '", f"mean '{key.removesuffix(name)}")
        return f"there is no key '{key}': allowed here are {', '.join(allowed)}{near}"
    if first["type"] in ("missing", "missing_argument"):
        return f"'{key}' is missing from the configuration"
    same = [d["msg"] for d in details if d["loc"][: len(keys)] == first["loc"][: len(keys)]]  # branches of a union
    messages = {
        m.removeprefix("Value error, ").removeprefix("Input should be ").partition(", unable to")[0] for m in same
    }
    what = " or ".join(sorted(messages)).replace("a valid boolean", "true or false")
    return f"{key or 'the configuration'} = {first['input']!r} is not allowed: it should be {what}"


def _place(location: tuple[int | str, ...], cls: type) -> tuple[Any, list[str]]:
    """(the dataclass that holds what is wrong, the keys that lead there), without pydantic's names of branches."""
    holder: Any = cls
    keys: list[str] = []
    for part in location:
        names = [field.name for field in dataclasses.fields(holder)] if dataclasses.is_dataclass(holder) else []
        if part in names or not keys:
            keys.append(str(part))
        if part in names and dataclasses.is_dataclass(hint := get_type_hints(holder)[str(part)]):
            holder = hint
    return holder, keys
