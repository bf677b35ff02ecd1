"""One decorator and one look-up for names: what `flow=`, `dataset=`, `objective.name=` … may be.

A class registers itself under the name a user types; a registry imports the modules of its package when it is first
asked, so adding a flow or a dataset adds files and edits none; then those that other installed packages name as entry
points (see `plugins.py`). Names are looked up here only: no dotted path that a config holds is ever imported.

    @FLOWS.register("resflow")
    class ResFlow(FlowConfig): ...

    FLOWS["resflow"]
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from .errors import ConfigError, did_you_mean
from .plugins import owner, plugins

__all__ = ["BASES", "CLASSES", "DATASETS", "FLOWS", "OBJECTIVES", "OPTIMIZERS", "Registry"]

T = TypeVar("T")


class Registry:
    """A mapping from names to classes or functions, filled by the modules of one package and by entry points.

    Arguments:
        noun: What is registered, for messages: "flow", "dataset", …; it is the config group too, and that of entry
            points.
        package: The module or package whose import registers the built-in names.
        key: The setting that holds the name in a config.
    """

    def __init__(self, noun: str, package: str, key: str = "name") -> None:
        self.noun = noun
        self.key = key
        self.package = package
        self._entries: dict[str, Any] = {}
        self._values: dict[str, dict[str, Any]] = {}
        self._broken: dict[str, str] = {}
        self._loaded = False

    def register(self, name: str, **values: Any) -> Callable[[T], T]:
        """Class or function decorator.

        Arguments:
            name: What a user types.
            values: Settings beside the name whose default is another one for this choice, as the lr of SGD.

        Raises:
            ValueError: The name is already taken by something else.
        """

        def decorate(entry: T) -> T:
            if name in self._entries and self._entries[name] is not entry:
                raise ValueError(f"the {self.noun} name '{name}' is registered twice")
            self._entries[name], self._values[name] = entry, values
            return entry

        return decorate

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self.package)
        for module in pkgutil.walk_packages(getattr(package, "__path__", []), f"{self.package}."):
            importlib.import_module(module.name)
        for name, point in plugins(self.noun).items():
            try:
                point.load()
                if name not in self._entries:
                    raise ConfigError(f"importing {point.value} registers no {self.noun} of this name")
            except Exception as error:  # whatever another package does wrong, the rest goes on working
                what = f"the {self.noun} '{name}' of {owner(point)} can't be loaded"
                reason = error if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
                self._broken[name] = " ".join(f"{what}: {reason}".split())

    def __getitem__(self, name: str) -> Any:
        self._load()
        if name not in self._entries:
            if name in self._broken:
                raise ConfigError(self._broken[name])
            raise ConfigError(
                f"there is no {self.noun} '{name}': choose one of {', '.join(self)}{did_you_mean(name, self)}"
            )
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def values(self, name: str) -> dict[str, Any]:
        """The settings beside the name whose default is another one for this choice."""
        self[name]  # where there is no such name, this says so
        return dict(self._values[name])

    def broken(self) -> dict[str, str]:
        """Names that installed packages promise and do not give, each with a sentence that says whose and why."""
        self._load()
        return dict(self._broken)

    def describe(self) -> dict[str, str]:
        """Each name with the first line of its docstring."""
        return {name: (self[name].__doc__ or "").strip().partition("\n")[0] for name in self}


FLOWS = Registry("flow", "cifrun.flows", "family")
DATASETS = Registry("dataset", "cifrun.data")
BASES = Registry("base", "cifrun.bases")
OBJECTIVES = Registry("objective", "cifrun.objectives")
OPTIMIZERS = Registry("optimizer", "cifrun.optimizers")
#: Those whose entries are config dataclasses, each with settings of its own; other packages may add to them.
CLASSES = (DATASETS, FLOWS, BASES)
