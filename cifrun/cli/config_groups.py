"""What there is to choose from: where the YAML is, and the names that each config group offers."""

from __future__ import annotations

from pathlib import Path

from ..plugins import conf_dirs, plugins

__all__ = ["LAUNCHER", "conf_dir", "groups"]

#: The group of the engines that may run a multirun.
LAUNCHER = "hydra/launcher"


def conf_dir() -> Path:
    """Where the YAML is: inside an installed package, or beside the package in a source checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def groups() -> dict[str, list[str]]:
    """The config groups, and the names of their choices: files here, and what other installed packages add."""
    here = conf_dir()
    folders = {file.parent.relative_to(here).as_posix() for file in here.glob("*/**/*.yaml")} - {"debug/flow"}
    return {
        group: sorted(
            {file.stem for conf in (here, *conf_dirs()) for file in (conf / group).glob("*.yaml")} | set(plugins(group))
        )
        for group in sorted(folders)  # debug/flow goes with debug
    }
