"""What a caller gives: whole numbers, Python's or numpy's, and weights; one sentence for what is neither."""

from __future__ import annotations

from operator import index
from typing import Any

import torch
from torch import nn

#: Seeds are below this, as PyTorch takes them.
SEEDS = 2**63


def whole(name: str, value: Any, least: int = 1) -> int:
    """The value as an `int`.

    Raises:
        ValueError: It is no whole number, or less than `least`.
    """
    try:
        number = index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} = {value!r} is not allowed: it should be a whole number from {least}")
    return number


def checked_seed(value: Any) -> int | None:
    """A seed as an `int`, or None.

    Raises:
        ValueError: It is no whole number from 0, or too large.
    """
    number = None if value is None else whole("seed", value, 0)
    if number is not None and number >= SEEDS:
        raise ValueError(f"seed = {number} is not allowed: it should be less than 2^63")
    return number


def check_weights(model: nn.Module, error: type[Exception] = ValueError) -> None:
    """Refuse weights that hold NaN or infinity: all that would come of them is NaN too.

    Raises:
        ValueError, or `error`: The model has such weights.
    """
    weights = [weight.detach() for weight in model.parameters() if weight.numel()]
    if not bool(torch.nn.utils.get_total_norm(weights, torch.inf).isfinite()):
        raise error("the model has weights that are not finite")
