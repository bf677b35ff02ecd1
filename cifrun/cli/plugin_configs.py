"""Configs of what other packages add: their YAML, and for what has none, the defaults of its dataclass."""

from __future__ import annotations

from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from ..config.fields import settings
from ..config.schema import ObjectiveConfig, OptimizerConfig
from ..plugins import conf_dirs, owner, plugins
from ..registry import CLASSES, DATASETS, OBJECTIVES, OPTIMIZERS, Registry
from .config_groups import LAUNCHER, conf_dir, groups
from .hydra_internals import forget_launchers

__all__ = ["defaults", "store_defaults"]


class PluginConfigs(SearchPathPlugin):
    """Lets Hydra find the YAML of other packages, after that of this one."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the `conf/` of each package."""
        for directory, provider in conf_dirs().items():
            search_path.append(provider, f"file://{directory}")


Plugins.instance().register(PluginConfigs)


def defaults(cls: type) -> dict[str, Any]:
    """The fields of a config dataclass as YAML would hold them: "???" where there is no default."""
    fields = getattr(cls, "__pydantic_fields__", {})
    composed = {setting.name: setting.composed for setting in settings(cls)} if fields else {}
    return {name: "???" if field.is_required() else composed[name] for name, field in fields.items()}


def store_defaults() -> None:
    """Give what is registered without a YAML file, by other packages or in a program, a config of its defaults.

    Where a file of ours has the name of one that a launcher of Hydra registers, ours is meant.
    """
    forget_launchers(groups()[LAUNCHER])
    for registry in CLASSES:
        group = registry.noun
        points = plugins(group)
        for name in _without_yaml(group, registry):
            node = {**defaults(registry[name]), registry.key: name}
            if registry is DATASETS and node.get("seed") == 0:  # where nothing else is said, data follow the run's seed
                node["seed"] = "${seed}"
            provider = owner(points[name]) if name in points else "cifrun"
            ConfigStore.instance().store(name, node, group=group, provider=provider)
    for group, (registry, cls) in {
        "objective": (OBJECTIVES, ObjectiveConfig),
        "optimizer": (OPTIMIZERS, OptimizerConfig),
    }.items():
        for name in _without_yaml(group, registry):
            ConfigStore.instance().store(
                name, {**defaults(cls), **registry.values(name), "name": name}, group=group, provider="cifrun"
            )


def _without_yaml(group: str, registry: Registry) -> list[str]:
    folders = [conf / group for conf in (conf_dir(), *conf_dirs())]
    return [name for name in registry if not any((folder / f"{name}.yaml").is_file() for folder in folders)]
