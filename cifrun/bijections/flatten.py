"""The first step of a flow for vectors whose data are images: their pixels in a row."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .base import Bijection

__all__ = ["Flatten"]


class Flatten(Bijection):
    """z = the numbers of x in a row, (C, H, W) → (C·H·W,); log|det| = 0."""

    indexable = False

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape, (math.prod(shape),))

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1), x.new_zeros(len(x))

    def _inverse(self, z: Tensor) -> Tensor:
        return z.unflatten(1, self.shape)
