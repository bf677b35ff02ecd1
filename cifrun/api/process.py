"""What a call leaves of the process that it is made in: everything as it was."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from ..compute.rng import forked

#: The folder of this package.
PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"


def outside() -> int:
    """The `stacklevel` by which a warning of the function that asks is one of the user's line that led to it."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


@contextmanager
def as_it_was(seed: int) -> Iterator[None]:
    """Inside, torch draws from `seed`; afterwards all generators and the switches that a run sets are as before."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    precision, tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with forked(seed):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = tf32
