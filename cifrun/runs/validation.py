"""Whether what was read from a file of a run is what this program wrote: each kind of value by the words for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, fields
from reprlib import repr as short
from typing import Any

from ..errors import RunError
from ..io.text import shortened

__all__ = ["KINDS", "check", "is_any", "kinds_of", "saved"]

#: JSON's whole numbers have no end, and its true is no number.
KINDS: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "true or false": lambda value: isinstance(value, bool),
    "a text": lambda value: isinstance(value, str),
    "a number": lambda value: type(value) is float or (type(value) is int and abs(value) < 2**63),
    "a finite number": lambda value: KINDS["a number"](value) and math.isfinite(value),
    "a finite number from 0": lambda value: KINDS["a finite number"](value) and value >= 0,
    "a whole number from 0": lambda value: type(value) is int and 0 <= value < 2**63,
    "a number of levels": lambda value: type(value) is int and 2 <= value <= 2**16,
    "a list": lambda value: isinstance(value, list),
    "a list of texts": lambda value: isinstance(value, list) and all(isinstance(entry, str) for entry in value),
    "a shape": lambda value: isinstance(value, list) and value != [] and all(map(_is_size, value)),
    "a mapping": lambda value: isinstance(value, dict),
}


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


def saved(*kinds: str, **default: Any) -> Any:
    """A field of a dataclass that is kept in a file, where it is of one of these `KINDS`."""
    return field(metadata={"kinds": kinds}, **default)


def kinds_of(cls: type) -> dict[str, tuple[str, ...]]:
    """What each field of such a dataclass may be."""
    return {of.name: of.metadata["kinds"] for of in fields(cls)}


def is_any(value: Any, kinds: Iterable[str]) -> bool:
    """Whether a value is of one of some kinds."""
    return any(KINDS[kind](value) for kind in kinds)


def check(found: Mapping[str, Any], kinds: Mapping[str, tuple[str, ...]], origin: str, complete: bool = False) -> None:
    """Raise `RunError` for the first field that is of none of its kinds; what `kinds` does not name may be anything.

    Arguments:
        found: What was read.
        kinds: For each field, those of `KINDS` that it may be.
        origin: What to call the file in the message.
        complete: Whether each field must be there.
    """
    for name, words in kinds.items():
        if name not in found and complete:
            raise RunError(f"{origin} is damaged: it has no '{name}'")
        if name in found and not is_any(found[name], words):
            value = shortened(short(found[name]), 200)
            raise RunError(f"{origin} is damaged: '{name}' is {value}, and should be {' or '.join(words)}")
