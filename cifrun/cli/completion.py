"""What TAB offers: verbs, then what Hydra knows of groups, choices and keys, and files where a path is meant."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from ..config.roles import holds_path
from .config_groups import groups
from .help import VERBS
from .hydra_app import compose
from .jobs import names_in

__all__ = ["complete"]


def complete(words: Sequence[str]) -> int:
    """Print the words that may follow on the line `$COMP_LINE`: verbs first, then what Hydra knows of the config."""
    line = os.environ.get("COMP_LINE", "")
    typed = line.split()[1:]
    current = "" if line.endswith(" ") or not typed else typed.pop()
    if not typed:
        print(" ".join(verb for verb in VERBS if verb.startswith(current)))
        return 0
    key, equals, value = current.partition("=")
    if typed[0] == "list":
        return 0
    if typed[0] == "data" and len(typed) < 3:
        choices = [["fetch"], groups()["dataset"]][len(typed) - 1]
        print(" ".join(choice for choice in choices if choice.startswith(current)))
        return 0
    if equals and holds_path(key):
        print(" ".join(f"{key}={path}" for path in _paths(value)))
        return 0
    before = [word for word in typed if word not in VERBS and not word.startswith("-")]
    os.environ["COMP_LINE"] = " ".join(["cifrun", *before, current])
    try:
        with redirect_stderr(StringIO()):  # a line that can't be composed yet has no completions, and no complaints
            return compose("show", words)
    except (Exception, SystemExit):
        return 0
    finally:
        os.environ["COMP_LINE"] = line


def _paths(prefix: str) -> list[str]:
    """The files and folders whose path starts with `prefix`."""
    folder, start = os.path.split(prefix)
    names = [name for name in names_in(Path(folder or ".")) if name.startswith(start)]
    paths = [os.path.join(folder, name) for name in names]
    return [path + "/" if os.path.isdir(path) else path for path in paths]
