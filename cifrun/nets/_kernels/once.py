"""Gradients that can't be differentiated in turn, and say so.

PyTorch's own `once_differentiable` says so only where an incoming gradient is itself part of a graph; where it is a
constant, as for a sum, a second derivative would be wrong without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

__all__ = ["once"]


class _End(torch.autograd.Function):
    """The same numbers; whoever differentiates them is told that this is not possible."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, of: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(
            "this gradient can't be differentiated again: a residual flow has second derivatives in evaluation "
            "(model.eval()), and where its log-determinants are exact"
        )


def once(backward: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """Decorator of a `backward` whose result can't be differentiated in turn."""

    @wraps(backward)
    def checked(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        with torch.no_grad():
            found = backward(ctx, *gradients)
        of = next((tensor for tensor in ctx.saved_tensors if tensor.requires_grad), None)
        if not torch.is_grad_enabled() or of is None:
            return found
        return tuple(gradient if gradient is None else _End.apply(gradient, of) for gradient in found)

    return checked
