"""The learning rate as a function of the step, and of how often validation has stopped to improve."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..config.schema import OptimizerConfig

#: The share of the learning rate that is left at a share of the way from the warm-up to the last step.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "none": lambda way: 1.0,
    "cosine": lambda way: 0.5 * (1 + math.cos(math.pi * way)),
    "linear": lambda way: 1 - way,
    "plateau": lambda way: 1.0,
}


def learning_rate(config: OptimizerConfig, step: int, max_steps: int, cuts: int = 0) -> float:
    """Learning rate of the `step`-th update (from 0): a linear warm-up, then the schedule.

    Arguments:
        cuts: How often it was lowered, each time by `plateau_factor`.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    way = (step - config.warmup_steps) / max(1, max_steps - config.warmup_steps)
    return config.lr * SCHEDULES[config.schedule](min(1.0, way)) * config.plateau_factor**cuts
