"""Operations with gradients written out by hand, each beside its plain formula.

A small flow is made of thousands of operations on a few numbers, each of which costs a few microseconds whatever it
does. So one node of the graph stands for many of them, where that pays.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def by_hand(x: Tensor) -> bool:
    """Whether such an operation may stand in for the formulas as they are.

    Not under a compiler, which fuses them by itself, nor under mixed precision, which chooses one for each of them.
    """
    return not torch.compiler.is_compiling() and not torch.is_autocast_enabled(x.device.type)


def differentiable(
    outputs: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor],
    grads: Tensor | Sequence[Tensor],
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients by the plain formulas, that somebody will differentiate in turn: those that are wanted, else None."""
    leaves = [tensor for tensor, is_wanted in zip(inputs, wanted, strict=True) if is_wanted]
    found = iter(torch.autograd.grad(outputs, leaves, grads, create_graph=True, allow_unused=True))
    return tuple(next(found) if is_wanted else None for is_wanted in wanted)
