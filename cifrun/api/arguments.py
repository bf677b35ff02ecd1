"""What a caller gives: whole numbers, Python's or numpy's, and weights; one sentence for what is neither."""

from __future__ import annotations

from operator import index
from typing import Any

import torch
from torch import nn

from ..config.fields import MOST

#: The largest seed that PyTorch takes.
SEEDS = 2**63 - 1


def whole(name: str, value: Any, least: int = 1, most: int = MOST) -> int:
    """The value as an `int`.

    Raises:
        ValueError: It is no whole number, less than `least`, or more than `most`.
    """
    try:
        number = index(value)
    except (TypeError, RuntimeError):  # a tensor of several numbers has its own
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} = {short(value)} is not allowed: it should be a whole number from {least}")
    if number > most:
        raise ValueError(f"{name} = {short(number)} is not allowed: it should be at most {most}")
    return number


def short(value: Any) -> str:
    """A value for a sentence; whole numbers may have more digits than Python writes."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"{'-' * (value < 0)}2^{value.bit_length() - 1} and more"
    return repr(value)


def checked_seed(value: Any) -> int | None:
    """A seed as an `int`, or None.

    Raises:
        ValueError: It is no whole number from 0, or too large.
    """
    return None if value is None else whole("seed", value, 0, SEEDS)


def check_weights(model: nn.Module, error: type[Exception] = ValueError) -> None:
    """Refuse weights that hold NaN or infinity: all that would come of them is NaN too.

    Raises:
        ValueError, or `error`: The model has such weights.
    """
    weights = [weight.detach() for weight in model.parameters() if weight.numel()]
    if not bool(torch.nn.utils.get_total_norm(weights, torch.inf).isfinite()):
        raise error("the model has weights that are not finite")


def dense(x: torch.Tensor, name: str) -> torch.Tensor:
    """A tensor whose numbers are all there, as of a sparse one.

    Raises:
        ValueError: It has none, or its rows are of several lengths.
    """
    if x.is_meta or x.is_nested:
        raise ValueError(f"{name} is a tensor {'without numbers' if x.is_meta else 'of rows of several lengths'}")
    x = x.dequantize() if x.is_quantized else x
    return x if x.layout == torch.strided else x.to_dense()
