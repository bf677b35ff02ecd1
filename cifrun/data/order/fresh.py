"""New draws for every batch, of a target that can be sampled: what is learnt is not limited by their number."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from ...compute import rng

#: The place of these draws among what a seed is for.
FRESH = 3


class Fresh:
    """An endless training set, as a function of the seed and the step alone: the `step`-th batch has draws of its own.

    It stands for the order of the data and for the data: row k is draw k modulo `size` of batch k // `size`.

    Arguments:
        sample: Draws n events with a generator, (n, *shape).
        size: Data a batch.
        seed: Of the draws.
    """

    def __init__(self, sample: Callable[[int, torch.Generator], Tensor], size: int, seed: int) -> None:
        self.size = size
        self._sample, self._seed = sample, seed
        self._batch = lru_cache(maxsize=1)(self._draw)  # which several processes and micro-batches have parts of

    def indices(self, step: int) -> Tensor:
        """Which rows the `step`-th batch (from 0) holds, (size,)."""
        return torch.arange(step * self.size, (step + 1) * self.size)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """The events of some rows of one batch, (rows, *shape), float32."""
        if not len(rows):
            return self._batch(0)[:0]
        return self._batch(int(rows[0]) // self.size)[rows % self.size]

    def _draw(self, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(rng.derive(self._seed, FRESH, step))
        return self._sample(self.size, generator).float()
