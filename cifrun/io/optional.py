"""Libraries that only some commands need: imported when they are needed, named with their installation if absent."""

from __future__ import annotations

import shlex
from importlib import import_module
from typing import Any

from ..errors import ConfigError

__all__ = ["need"]

#: Packages whose name for pip is not the name that is imported.
PIP_NAMES = {"sklearn": "scikit-learn"}


def need(module: str, what_for: str, install: str | None = None) -> Any:
    """Import a library that may not be installed.

    Arguments:
        module: Its dotted name.
        what_for: What needs it, the subject of the sentence.
        install: What pip installs; by default the package of the module.

    Raises:
        ConfigError: it is not installed; the sentence says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        install = install or PIP_NAMES.get(package, package)
        sentence = f"{what_for} needs {install}, which is not installed: pip install {shlex.quote(install)}"
        raise ConfigError(sentence) from error
