"""What Hydra and OmegaConf keep to themselves and this program needs all the same.

No other file touches their private names. When a new version moves one, tests/cli/test_hydra_internals.py says which,
and this file is the one to mend.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

__all__ = ["add_launcher", "environment", "forget_launchers", "get_args_parser", "outcome", "root_of"]


@contextmanager
def environment(argv: list[str], full_error: str | None) -> Iterator[None]:
    """Inside, `sys.argv` and HYDRA_FULL_ERROR, which Hydra reads from the process, are these."""
    saved = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    try:
        _set(argv, full_error)
        yield
    finally:
        _set(*saved)


def _set(argv: list[str], full_error: str | None) -> None:
    sys.argv = argv
    os.environ.pop("HYDRA_FULL_ERROR", None)
    if full_error is not None:
        os.environ["HYDRA_FULL_ERROR"] = full_error


def add_launcher(launcher: type[Launcher]) -> None:
    """Register a launcher as `_target_: hydra_plugins.cifrun.NAME`.

    Hydra makes launchers of no other package than `hydra_plugins`, and `Plugins.register` keeps the real one.
    """
    Plugins.instance().class_name_to_class[f"hydra_plugins.cifrun.{launcher.__name__}"] = launcher


def forget_launchers(names: Iterable[str]) -> None:
    """Drop the configs that installed plugins registered for launchers of these names, so that ours are found."""
    stored = ConfigStore.instance().repo["hydra"]["launcher"]
    for name in names:
        stored.pop(f"{name}.yaml", None)


def outcome(job: JobReturn) -> Any:
    """What a job returned or, if it failed, raised. Its public `return_value` prints and raises that."""
    return job._return_value


def root_of(error: OmegaConfBaseException) -> DictConfig | None:
    """The whole config in which an error happened, if the error knows it."""
    node = error.parent_node
    root = node._get_root() if node is not None else None
    return root if isinstance(root, DictConfig) else None
