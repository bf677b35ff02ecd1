"""Where a command writes: into a folder that is there, with an ending that it knows, and over nothing that it reads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..config.schema import Config
from ..errors import ConfigError
from ..io.table_files import check_ending

__all__ = ["check_output"]


def check_output(key: str, path: Path, endings: Mapping[str, object], config: Config) -> str:
    """The ending of a file that will be written, before any work is done for it.

    Raises:
        ConfigError: It is none of `endings`; there is no such folder; or the file is one of data, of the run or of the
            command.
    """
    ending = check_ending(key, path, endings)
    if not path.parent.is_dir():
        raise ConfigError(f"{key} = '{path}' is not possible: there is no such folder")
    for source in (config.data, *vars(config.dataset).values()):
        if isinstance(source, Path) and _same(path, source):
            raise ConfigError(f"{key} = '{path}' would overwrite the data: choose another file")
    return ending


def _same(one: Path, other: Path) -> bool:
    """Whether two names are of one file."""
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them is not there
        return one.resolve() == other.resolve()
