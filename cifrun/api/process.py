"""What a call leaves of the process that it is made in: everything as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ..compute.rng import forked


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
