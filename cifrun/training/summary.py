"""What a run says of itself: the head of `summary.json`, and its settings as TensorBoard's hyperparameters."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..cif.model import Model
from ..config.fields import Role
from ..config.roles import flattened, role_of
from ..config.schema import Config, to_dict
from ..runs.summary import Summary
from .training_state import TrainingState


def summarise(
    config: Config, model: Model, state: TrainingState, status: str, error: str | None = None
) -> dict[str, Any]:
    """`Summary` of a run, as plain data."""
    device = next(model.parameters()).device
    summary = Summary(
        status=status,
        error=error,
        dataset=config.dataset.name,
        data_fingerprint=state.fingerprint,
        data_warnings=state.warnings,
        flow=config.flow.family,
        cif=config.cif,
        seed=config.seed,
        parameters=sum(p.numel() for p in model.parameters()),
        steps=state.step,
        skipped_steps=state.skipped,
        best_valid_log_likelihood=state.best_valid,
        wall_seconds=state.wall_seconds,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        versions={"cifrun": version("cifrun"), "python": platform.python_version(), "torch": torch.__version__},
        git_commit=_git_commit(),
    )
    return asdict(summary)


def hyperparameters(config: Config) -> dict[str, bool | int | float | str]:
    """The settings that say what is trained, and which repetition of it: by dotted names, with plain values."""
    settings = flattened(to_dict(config))
    return {
        name: value if isinstance(value, (bool, int, float)) else str(value)
        for name, value in settings.items()
        if value is not None  # a text among numbers would make texts of all in TensorBoard's table
        and role_of(name, settings) in (Role.DATA, Role.TRAINED, Role.LENGTH, Role.REPETITION)
    }


@lru_cache
def _git_commit() -> str | None:
    """The commit of the source that runs, when it runs from its own git checkout."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # not a copy installed inside another checkout
        return git("rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None
