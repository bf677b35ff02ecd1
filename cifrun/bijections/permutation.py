"""Maps that put coordinates in another order, or in a row: log|det| = 0."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Bijection

__all__ = ["Flatten", "Flip", "Permutation"]


class Flip(Bijection):
    """z = x with its first event dimension reversed."""

    indexable = False
    lipschitz_ceiling = 1.0

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flip(1), x.new_zeros(x.shape[0])

    def _inverse(self, z: Tensor) -> Tensor:
        return z.flip(1)


class Permutation(Bijection):
    """z_i = x_{π(i)} along the first event dimension, for a random π that is drawn once and saved with the weights.

    The identity is not drawn (unless there is one coordinate), so a permutation always does something.

    Arguments:
        shape: Shape of an event.
        generator: Draws π; torch's global generator if not given.
    """

    indexable = False
    lipschitz_ceiling = 1.0
    order: Tensor

    def __init__(self, shape: Sequence[int], generator: torch.Generator | None = None) -> None:
        super().__init__(shape)
        size = self.shape[0]
        order = torch.randperm(size, generator=generator)
        while size > 1 and bool((order == torch.arange(size)).all()):
            order = torch.randperm(size, generator=generator)
        self.register_buffer("order", order)

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.index_select(1, self.order), x.new_zeros(x.shape[0])

    def _inverse(self, z: Tensor) -> Tensor:
        return z.index_select(1, self.order.argsort())


class Flatten(Bijection):
    """z = the numbers of x in a row, (C, H, W) → (C·H·W,): the first step of a flow of vectors if data are images."""

    indexable = False

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape, (math.prod(shape),))

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1), x.new_zeros(len(x))

    def _inverse(self, z: Tensor) -> Tensor:
        return z.unflatten(1, self.shape)
