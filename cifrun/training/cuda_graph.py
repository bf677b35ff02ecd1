"""Work on a GPU that is the same each time, recorded once as a CUDA graph and from then on started as a whole.

A small model costs a GPU little arithmetic and many starts: a training step is a thousand operations of a few
microseconds, which Python starts one by one. A graph holds all of them, with the memory they use; to replay it is one
start. The operations are the same, and so are the random numbers: the GPU's generator goes on from replay to replay.

What may be recorded is work that does the same each time: it neither waits for a number from the device, on which it
might decide, nor draws from the CPU's generator, whose numbers would be the same for ever. `watched` sees both.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

#: The part of free memory that a recording may take: it has its own, which nothing else shares.
SHARE = 0.8


@dataclass
class Watch:
    """What became known of some work on a GPU.

    Attributes:
        repeatable: Whether it did nothing that depends on a number of the device or on the CPU's generator.
        bytes: The most memory that it took beyond what was there before.
    """

    repeatable: bool = False
    bytes: int = 0

    def fits(self) -> bool:
        """Whether the memory that is free is enough to record it."""
        torch.cuda.empty_cache()
        return self.bytes <= SHARE * torch.cuda.mem_get_info()[0]


@contextmanager
def watched() -> Iterator[Watch]:
    """Watch the work that is done inside; the result is complete afterwards."""
    watch, before = Watch(), torch.get_rng_state()
    torch.cuda.reset_peak_memory_stats()
    held, mode = torch.cuda.memory_allocated(), torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield watch
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    waits = any("synchronizing CUDA operation" in str(warning.message) for warning in caught)
    watch.repeatable = not waits and torch.equal(before, torch.get_rng_state())
    watch.bytes = torch.cuda.max_memory_allocated() - held


class Recorded:
    """`work(x)`, recorded; calls replay it with other numbers in place of x.

    Arguments:
        work: From a tensor on the GPU to a tensor on the GPU; it has been done a few times, so that libraries and
            optimisers are set up. Recording it changes nothing: it is as if it had not been called.
        x: Gives shape and precision; its numbers don't matter.
        changes: What work changes in place, whose version is to be raised at each call, as it would be without.
    """

    def __init__(self, work: Callable[[Tensor], Tensor], x: Tensor, changes: Iterable[Tensor]) -> None:
        self._x, self._changes = x.clone(), list(changes)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = work(self._x)

    def takes(self, x: Tensor) -> bool:
        """Whether x has the shape and precision that were recorded."""
        return x.shape == self._x.shape and x.dtype == self._x.dtype

    def __call__(self, x: Tensor) -> Tensor:
        """`work(x)`; x may still be on its way to the device."""
        self._x.copy_(x, non_blocking=True)
        self._graph.replay()
        torch.autograd.graph.increment_version(self._changes)
        return self._result.clone()
