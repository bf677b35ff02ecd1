"""What operations with a gradient written out by hand have in common.

A small flow is made of thousands of operations on a few numbers, each of which costs a few microseconds whatever it
does. So one node of the graph stands for many of them, where that pays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["by_hand", "differentiably"]


def by_hand(x: Tensor) -> bool:
    """Whether such an operation may stand in for the formulas as they are.

    Not under a compiler, which fuses them by itself, nor under mixed precision, which chooses one for each of them.
    """
    return not torch.compiler.is_compiling() and not torch.is_autocast_enabled(x.device.type)


def differentiably(
    formulas: Callable[..., Any], inputs: Sequence[Tensor], wanted: Sequence[bool], grads: Tensor | Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """The gradient of `formulas(*inputs)` as part of a graph: for a `backward` that is itself to be differentiated.

    Arguments:
        formulas: The operation as PyTorch's own ones do it.
        inputs: What `forward` was given.
        wanted: For each of them whether it needs a gradient, `ctx.needs_input_grad`.
        grads: The gradient of the result.
    """
    leaves = [t for t, needed in zip(inputs, wanted, strict=True) if needed]
    found = iter(torch.autograd.grad(formulas(*inputs), leaves, grads, create_graph=True, allow_unused=True))
    return tuple(next(found) if needed else None for needed in wanted)
