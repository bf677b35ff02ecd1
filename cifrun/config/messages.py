"""What pydantic finds wrong with a configuration, as one sentence in our words: the key, the value, what is allowed."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

from pydantic import ValidationError

from ..errors import did_you_mean

__all__ = ["Nested", "in_words", "sentence"]


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
    same = [d for d in details if d["loc"][: len(keys)] == first["loc"][: len(keys)]]  # branches of a union
    what = " or ".join(sorted({_wanted(detail) for detail in same}))
    return f"{key or 'the configuration'} = {first['input']!r} is not allowed: it should be {what}"


def in_words(kind: str) -> str:
    """A type as `Setting.type` has it, as what a value should be: "integer or 'all'" → "a whole number or 'all'"."""
    return " or ".join(_KINDS.get(part, part) for part in kind.split(" or "))


def _wanted(detail: Any) -> str:
    """What one finding of pydantic's asks for, as what a value should be."""
    kind, about = detail["type"], detail.get("ctx", {})
    for beginning, words in _WANTED.items():
        if kind.startswith(beginning):
            return words.format(**about)
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(about["pattern"], f"a text that the pattern {about['pattern']} fits")
    return detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


#: What `Setting.type` calls a type, and what a value of it is.
_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "text": "a text",
    "path": "a path",
    "mapping": "a mapping",
    "list of integer": "a list of whole numbers",
    "list of number": "a list of numbers",
    "list of text": "a list of texts",
}
#: Beginnings of what pydantic calls its findings, the longer ones first.
_WANTED = {
    "int_parsing_size": "a number of fewer digits",
    "int_": "a whole number",
    "float_": "a number",
    "bool_": "true or false",
    "string_too_short": "a text of at least {min_length} characters",
    "string_too_long": "a text of at most {max_length} characters",
    "string_type": "a text",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "list_": "a list",
    "dict_": "a mapping",
    "dataclass_type": "a mapping",
    "path_": "a path",
    "invalid_key": "a mapping with names as keys",
}
#: What texts look like of which the settings here say a pattern.
_PATTERNS = {
    "^https?://": "an address that begins with http:// or https://",
    "^[0-9a-f]{32}$": "32 digits of 0 to 9 and a to f",
    r"^\w[\w.-]*$": "a name, of letters, digits and . _ -",
}
