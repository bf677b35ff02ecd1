"""How many data a model may be given at once: what fits into a share of the memory that is free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..compute.memory import free_bytes
from ..compute.rng import forked
from .model import Model
from .modes import evaluating

__all__ = ["chunk_size", "micro_batches", "numbers_a_row"]

#: The chunk where memory is no question, on a CPU and on a GPU, which takes as long for a few rows. More makes nothing
#: faster, and less would change the order of random draws.
MOST = {"cpu": 10_000, "cuda": 500_000}
#: The share of free memory to fill, and how many tensors of the largest size are alive at one time.
SHARE, ALIVE = 0.25, 8
#: The share of free memory that training may fill.
SHARE_OF_TRAINING = 0.6

_measured: WeakKeyDictionary[Model, int] = WeakKeyDictionary()  # numbers a row, which do not depend on the weights


def chunk_size(model: Model, wanted: int | Literal["auto"]) -> int:
    """`wanted` if it is a number; for "auto" 10 000 (on a GPU 500 000), or if that is more than memory allows, the
    power of two that it does."""
    if wanted != "auto":
        return wanted
    like = next(model.parameters())
    most, free = MOST.get(like.device.type, MOST["cpu"]), free_bytes(like.device)
    if free is None:
        return most
    if model not in _measured:
        _measured[model] = numbers_a_row(model)
    rows = int(SHARE * free / (ALIVE * like.element_size() * _measured[model]))
    return most if rows >= most else 2 ** max(0, rows.bit_length() - 1)


@torch.no_grad()
def numbers_a_row(model: Model) -> int:
    """By how many numbers the largest tensor of a forward pass grows with each datum."""
    like, passes = next(model.parameters()), []
    small, large = (torch.zeros((rows, *model.shape), dtype=like.dtype, device=like.device) for rows in (8, 16))
    with evaluating(model):
        with forked(0):
            for x in (large, small):  # leaves what is kept from call to call
                model.log_w(x)
        for x in (small, large):
            with forked(0), _Sizes() as seen:
                model.log_w(x)
            passes.append(seen.sizes)
    return max(1, *((more - less) // 8 for less, more in zip(*passes, strict=False)))


def micro_batches(model: Model, batch: Tensor, forward: Callable[[Tensor], Tensor]) -> int:
    """In how many parts to take a batch, (B, …), so that what a backward pass needs fits into the memory that is free.

    Arguments:
        model: Set to eval mode for the time being, in which a pass changes nothing that is kept.
        forward: From some rows of the batch to what is differentiated.
    """
    free = free_bytes(next(model.parameters()).device)
    if free is None or len(batch) < 2:
        return 1
    rows = min(8, len(batch) // 2)
    with evaluating(model):
        kept = [_kept_bytes(forward, batch[:size]) for size in (rows, rows, 2 * rows)]  # the first pass sets things up
    a_row = max(0, kept[2] - kept[1]) // rows
    # Gradients of what is kept, and what lies between, come on top of it.
    return min(len(batch), max(1, -(-2 * a_row * len(batch) // int(SHARE_OF_TRAINING * free))))


def _kept_bytes(forward: Callable[[Tensor], Tensor], batch: Tensor) -> int:
    """Bytes that a forward pass keeps for backward, each piece of memory once."""
    seen: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with forked(0), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        result = forward(batch)  # alive until all is counted
    del result
    return sum(seen.values())


class _Sizes(TorchDispatchMode):
    """Takes note of the sizes of all tensors that operations inside give."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if "empty" not in func.overloadpacket.__name__:  # memory that is kept is made in one pass and not in the next
            self.sizes += [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        return result
