"""From plain data to a typed config dataclass, or to one sentence that says which value is not allowed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from ..errors import ConfigError
from ..registry import Registry
from .fields import Setting, settings
from .messages import Nested, in_words, sentence

__all__ = ["check", "chosen_from", "name_in"]

#: Digits of a whole number, at most.
DIGITS = 100


def check(cls: type, data: Any, prefix: str = "") -> Any:
    """`cls(**data)` with types and ranges checked.

    Raises:
        ConfigError: A value is not allowed; the sentence says what is, and for which key.
    """
    if (long := _long_number(data, prefix)) is not None:
        raise ConfigError(f"{long} is not allowed: it has more than {DIGITS} digits")
    for one in _settings(cls):
        value = data
        for key in one.name.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if one.misreads(value):
            name = f"{prefix}.{one.name}" if prefix else one.name
            raise ConfigError(f"{name} = {value!r} is not allowed: it should be {in_words(one.type)}")
    try:
        return TypeAdapter(cls).validate_python(data)
    except ValidationError as error:
        raise ConfigError(sentence(error, cls, prefix)) from None


def _long_number(value: Any, name: str) -> str | None:
    """Where there is a whole number of more than `DIGITS` digits, which Python may not even write; None if nowhere."""
    if isinstance(value, int):
        return name if abs(value) >= 10**DIGITS else None
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        pairs = ((f"{name}.{key}" if name else str(key), inner) for key, inner in value.items())
    elif isinstance(value, list | tuple):
        pairs = ((name, inner) for inner in value)
    return next((found for key, inner in pairs if (found := _long_number(inner, key)) is not None), None)


@lru_cache
def _settings(cls: type) -> tuple[Setting, ...]:
    return tuple(settings(cls))


def _validator(check: Callable[[Any], Any]) -> BeforeValidator:
    """A validator of pydantic's, which collects the sentences of `check`."""

    def run(raw: Any) -> Any:
        try:
            return check(raw)
        except ConfigError as error:
            raise Nested(error) from error

    return BeforeValidator(run)


def name_in(registry: Registry) -> BeforeValidator:
    """The value must be a name of that registry."""

    def known(name: Any) -> Any:
        if not isinstance(name, str):
            raise ConfigError(f"{registry.noun} = {name!r} is not allowed: choose one of {', '.join(registry)}")
        registry[name]
        return name

    return _validator(known)


def chosen_from(registry: Registry, key: str) -> BeforeValidator:
    """A mapping becomes the dataclass that `registry` holds under the mapping's `key`."""

    def chosen(raw: Any) -> Any:
        if dataclasses.is_dataclass(raw):
            return raw
        if not isinstance(raw, Mapping):
            raise ConfigError(f"{registry.noun} = {raw!r} is not allowed: choose one of {', '.join(registry)}")
        if raw.get(key) is not None and not isinstance(raw[key], str):
            raise ConfigError(
                f"{registry.noun}.{key} = {raw[key]!r} is not allowed: choose one of {', '.join(registry)}"
            )
        if raw.get(key) is None:
            raise ConfigError(f"{registry.noun}.{key} is missing: choose one of {', '.join(registry)}")
        return check(registry[raw[key]], raw, registry.noun)

    return _validator(chosen)
