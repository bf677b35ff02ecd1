"""The one place that seeds: everything random in a run comes from torch's generators, set and saved here."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

__all__ = ["forked", "get_state", "seed_all", "set_state"]


def seed_all(seed: int) -> None:
    """Seed torch on every device, and numpy and Python for what a third-party flow may draw from them."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def forked(seed: int) -> Iterator[None]:
    """Inside, torch draws from `seed`; afterwards its generators go on as if nothing had been drawn."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def get_state() -> dict[str, Tensor]:
    """States of torch's generators, as byte tensors by name."""
    states = {"cpu": torch.get_rng_state()}
    for k in range(torch.cuda.device_count()):
        states[f"cuda{k}"] = torch.cuda.get_rng_state(k)
    return states


def set_state(states: dict[str, Tensor]) -> None:
    """Undo what happened since `get_state`; generators of devices that are not here are left out."""
    torch.set_rng_state(states["cpu"])
    for k in range(torch.cuda.device_count()):
        if f"cuda{k}" in states:
            torch.cuda.set_rng_state(states[f"cuda{k}"], k)
