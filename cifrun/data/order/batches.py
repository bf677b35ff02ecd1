"""The order of the data: which of them a batch holds, wherever they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from ...compute import rng
from .permutation import permutation

#: The places of an epoch's two orders, of its blocks and inside a window of them, among what its key seeds.
BLOCKS, INSIDE = 1, 2


class Batches:
    """The order of the data, as a function of the seed and the step alone: to go on, nothing has to be replayed.

    The data are shuffled anew each epoch, and the epochs laid end to end and cut into batches of one size; so every
    datum comes up once an epoch, and no batch is short. Up to `permutation.LARGE` data, the order of an epoch is drawn
    as a whole; beyond, it is a keyed permutation, which takes no memory.

    With `block`, an epoch reads the data in passages: it draws `window` blocks of neighbours from all over them,
    shuffles what these hold, and goes on with the next. What memory has to hold is a window. In exchange, neighbours
    meet more often than by chance, which matters where they are alike, as in a sorted file: the mean over a batch of m
    has at most 1 + (m − 1) / window times the variance that m independent draws give it, and all batches of a window
    see the same blocks.

    Arguments:
        count: Size of the training set.
        batch_size: Data a batch; at most `count` are taken.
        seed: Of the shuffles.
        block: Neighbours that are read together; None to shuffle all data at once.
        window: Blocks that are shuffled together, if there are any.
        prefetch: Told where the blocks of a window begin, (blocks,), before it is asked for.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        block: int | None = None,
        window: int = 1,
        prefetch: Callable[[Tensor], None] | None = None,
    ) -> None:
        self.count = count
        self.size = min(batch_size, count)
        self.seed = seed
        self.block = None if block is None else min(block, count)
        self.window = window
        self._prefetch = prefetch
        self._prefetched = -1
        self._order, self._block_order = (lru_cache(maxsize=1)(permutation) for _ in range(2))

    def indices(self, step: int) -> Tensor:
        """Which data the `step`-th batch (from 0) holds, (size,)."""
        position, end = step * self.size, (step + 1) * self.size
        parts: list[Tensor] = []
        while position < end:
            epoch, offset = divmod(position, self.count)
            # Odd multiplier: distinct (seed, epoch) pairs get distinct streams.
            key = (self.seed * 0x9E3779B1 + epoch) % 2**63
            places = torch.arange(offset, min(offset + end - position, self.count))
            parts.append(
                self._order(self.count, key)(places) if self.block is None else self._in_blocks(places, key, self.block)
            )
            position += len(places)
        return torch.cat(parts)

    def _in_blocks(self, places: Tensor, key: int, size: int) -> Tensor:
        """What is at these neighbouring places of an epoch, in blocks of `size`; a remainder stays last."""
        window, whole = size * self.window, self.count // size
        first, end = int(places[0]), int(places[-1]) + 1

        def blocks(slots: Tensor) -> Tensor:
            return self._block_order(whole, rng.derive(key, BLOCKS))(slots.clamp(max=whole - 1)).where(
                slots < whole, slots
            )

        shuffled = []
        for start in range(first // window * window, end, window):
            inside, number = min(window, self.count - start), rng.derive(key, INSIDE, start)
            if self._prefetch is not None and number != self._prefetched:
                self._prefetched = number
                self._prefetch(size * blocks(torch.arange(start // size, -(-(start + inside) // size))))
            part = places[max(0, start - first) : start + window - first]
            shuffled.append(start + self._order(inside, number)(part - start))
        places = torch.cat(shuffled)
        return size * blocks(places // size) + places % size
