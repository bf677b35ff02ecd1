"""Sweeps that survive: `cifrun train -m … sweep.name=NAME`, given again, does what is left of it.

Each job of the sweep has the directory multirun/NAME/OVERRIDES, whatever else the sweep holds. Whoever works on a job
holds the lock of its directory (`runs.lock`), so a job is never done twice, and never lost. Between machines whose
common file system has no locks, give each a sweep of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config.fields import Role
from ..config.roles import differing
from ..config.schema import Config, to_dict
from ..errors import RunError
from ..io.terminal import tell
from ..runs.directory import RunDirectory
from ..runs.lock import Busy, alone

__all__ = ["go_on", "take_part"]

#: What may differ between a job and the run in its directory: where it runs, what belongs to one command, and its
#: length, as a run can be extended.
FREE = (Role.EXECUTION, Role.COMMAND, Role.LENGTH)


def take_part(config: Config, directory: Path, wait: bool) -> Mapping[str, Any] | None:
    """Do a job, or what is left of it: its summary, or None while another process is at it.

    A job that is complete, or whose patience ran out, is left alone; one that was interrupted, or is now to be longer,
    is continued; one that has not begun is trained.

    Arguments:
        config: What the job is.
        directory: Where it belongs.
        wait: Wait for the other process to end, and then do what it left.

    Raises:
        RunError: the directory holds a run of other settings, or one that failed before.
        TrainingError, KeyboardInterrupt: as in `training.loop.train`.
    """
    try:
        with alone(directory, wait):
            return go_on(config, directory)
    except Busy:
        return None


def go_on(config: Config, directory: Path) -> Mapping[str, Any]:
    """As `take_part`, for whoever is alone at the directory."""
    from ..training.loop import train

    run = RunDirectory(directory)
    if not run.begun():
        return train(config, directory)
    saved = run.config()
    if another := differing(to_dict(config), to_dict(saved), FREE):
        raise RunError(
            f"'{directory}' holds a run of another {another[0]}, which a preset or a default must have changed since: "
            f"choose another sweep.name or hydra.run.dir"
        )
    summary = run.summary()
    status, steps = summary.get("status"), max(config.trainer.max_steps, saved.trainer.max_steps)
    if status == "failed":
        raise RunError(
            f"'{directory}' failed before, at step {summary.get('steps')}: resume={directory} goes on, or remove it to "
            f"begin anew"
        )
    if config.trainer.max_steps < saved.trainer.max_steps:
        tell(f"{directory.name} keeps its {saved.trainer.max_steps} steps, as a run can only grow")
    if status == "stopped_early" or (status == "completed" and steps == saved.trainer.max_steps):
        tell(f"{directory.name} is complete")
        return summary
    return train(replace(config, trainer=replace(config.trainer, max_steps=steps)), directory, resume=True)
