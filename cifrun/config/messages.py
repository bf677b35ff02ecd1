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
    # Where it is: the fields on the way there, without pydantic's names for the branches of a union.
    holder: Any = cls
    keys: list[str] = []
    for part in first["loc"]:
        hints = get_type_hints(holder) if dataclasses.is_dataclass(holder) else {}
        if part in hints:
            keys.append(str(part))
            holder = hints[str(part)] if dataclasses.is_dataclass(hints[str(part)]) else holder
    key = ".".join(filter(None, [prefix, *keys]))
    if first["type"] == "unexpected_keyword_argument":
        name, allowed = str(first["loc"][-1]), [field.name for field in dataclasses.fields(holder)]
        group = f"{key}." if key else ""
        near = did_you_mean(name, allowed).replace("mean '", f"mean '{group}")
        return f"there is no key '{group}{name}': allowed here are {', '.join(allowed)}{near}"
    if first["type"] in ("missing", "missing_argument"):
        return f"'{key}' is missing from the configuration"
    same = [d["msg"] for d in details if d["loc"][: len(keys)] == first["loc"][: len(keys)]]  # branches of a union
    messages = {
        m.removeprefix("Value error, ").removeprefix("Input should be ").partition(", unable to")[0] for m in same
    }
    messages = {"a mapping with names as keys" if m == "Keys should be strings" else m for m in messages}
    messages = {"a number of fewer digits" if m.startswith("Unable to parse") else m for m in messages}
    what = " or ".join(sorted(messages)).replace("a valid boolean", "true or false")
    return f"{key or 'the configuration'} = {first['input']!r} is not allowed: it should be {what}"
