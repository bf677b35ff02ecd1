"""What settings decide about a run: which of them define it, and which a later command may change.

role_of("trainer.progress", settings)    Role.EXECUTION
changeable("sample")                     ("run", "n", "output", "eval", "device", "seed")
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from ..registry import CLASSES, DATASETS
from .fields import Role, settings
from .schema import Config

__all__ = ["changeable", "command_defaults", "differing", "flattened", "holds_path", "lengths", "reading", "role_of"]


def flattened(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names: {"flow": {"depth": 3}} → {"flow.depth": 3}."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        nested = isinstance(value, Mapping) and value
        flat |= flattened(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def role_of(name: str, settings: Mapping[str, Any]) -> Role:
    """What a setting decides.

    Arguments:
        name: Its dotted name.
        settings: The run's config, flattened: its dataset, flow and base say what their own settings decide. What
            nobody knows, as of a flow that is no longer installed, counts as what is trained.
    """
    chosen = tuple(str(settings.get(f"{registry.noun}.{registry.key}")) for registry in CLASSES)
    return _roles(*chosen).get(name, Role.TRAINED)


def differing(new: Mapping[str, Any], old: Mapping[str, Any], free: Container[Role]) -> list[str]:
    """The settings that differ between two configs as plain data, but for those of the roles in `free`."""
    new, old = flattened(new), flattened(old)
    names = [name for name in dict.fromkeys([*new, *old]) if new.get(name) != old.get(name)]
    return [name for name in names if role_of(name, new) not in free]


@lru_cache
def lengths() -> tuple[str, ...]:
    """The settings that may grow in a run that exists."""
    return tuple(setting.name for setting in settings(Config) if setting.role is Role.LENGTH)


def changeable(verb: str) -> tuple[str, ...]:
    """The top-level keys and groups that may be typed with `verb` (train: with resume=DIR) of a run that exists."""
    fields = TypeAdapter(Config).json_schema()["properties"]
    mine = [name for name, field in fields.items() if verb in field["may_change"]]
    return tuple(sorted(mine, key=lambda name: name not in command_defaults()))  # the command's own come first


@lru_cache
def holds_path(name: str) -> bool:
    """Whether a setting is a path: one of `Config`, or one that any dataset, flow or base has."""
    group, _, key = name.rpartition(".")
    registries = {registry.noun: registry for registry in CLASSES}
    holders: list[Any] = [registries[group][entry] for entry in registries.get(group, ())] if group else [Config]
    having = [cls for cls in holders if key in cls.__pydantic_fields__]
    return any(setting.is_path for cls in having for setting in settings(cls) if setting.name == key)


@lru_cache
def reading(verb: str) -> tuple[str, ...]:
    """The settings of datasets that may be typed with `verb` of a run that exists: they say how a file is read."""
    known = [setting for name in DATASETS for setting in settings(DATASETS[name], DATASETS.noun)]
    return tuple(dict.fromkeys(setting.name for setting in known if verb in setting.schema["may_change"]))


@lru_cache
def command_defaults() -> dict[str, Any]:
    """What belongs to one command only, with the values that a run's `config.yaml` has for it."""
    return {setting.name: setting.default for setting in settings(Config) if setting.role is Role.COMMAND}


@lru_cache
def _roles(*chosen: str) -> dict[str, Role]:
    """The role of each setting of a run in which these are chosen, one of each of `CLASSES`."""
    known = list(settings(Config))
    for registry, name in zip(CLASSES, chosen, strict=True):
        if name in registry:
            known += settings(registry[name], registry.noun, Role.DATA if registry is DATASETS else Role.TRAINED)
    return {setting.name: setting.role for setting in known}
