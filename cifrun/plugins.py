"""Flows, datasets and base densities of other packages, found through Python entry points.

Another package writes and registers one as this one does, and names it in its `pyproject.toml`:

    [project.entry-points."cifrun.flows"]
    rotation = "my_package.rotation"            # its import registers the flow "rotation"

    [project.entry-points."cifrun.datasets"]
    banana = "my_package.banana:Banana"         # a class will do as well as a module

The name on the left is the one that is registered, and that users type: `flow=rotation`, `dataset=banana`. Once the
package is installed, its names stand beside the built-in ones in every command, in help and in messages.

YAML is optional. What a package ships as `my_package/conf/flow/rotation.yaml` is found, and so are presets under
`my_package/conf/experiment/`; a flow or dataset without a file gets one from its dataclass's defaults. Nothing of
another package can replace what is built in. A base density goes under `cifrun.bases` in the same way.

This module reads what is installed and imports none of it.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

__all__ = ["ENTRY_POINTS", "conf_dirs", "owner", "plugins"]

#: The entry points of each config group to which other packages may add.
ENTRY_POINTS = {"flow": "cifrun.flows", "dataset": "cifrun.datasets", "base": "cifrun.bases"}


@lru_cache
def plugins(group: str) -> dict[str, EntryPoint]:
    """What installed packages add to a config group, by name; empty for a group that is closed."""
    if group not in ENTRY_POINTS:
        return {}
    return {point.name: point for point in sorted(entry_points(group=ENTRY_POINTS[group]))}


def owner(point: EntryPoint) -> str:
    """The distribution that an entry point belongs to, with its version."""
    return "an unknown package" if point.dist is None else f"{point.dist.name} {point.dist.version}"


@lru_cache
def conf_dirs() -> dict[Path, str]:
    """The `conf/` of each package that adds something, with the distribution it belongs to."""
    found: dict[Path, str] = {}
    for group in ENTRY_POINTS:
        for point in plugins(group).values():
            try:
                spec = find_spec(point.module.partition(".")[0])
            except (ImportError, ValueError):  # a package that is half removed
                continue
            for folder in (spec.submodule_search_locations if spec else None) or ():
                if (Path(folder) / "conf").is_dir():
                    found[Path(folder) / "conf"] = owner(point)
    return found
