"""A learned affine map of each coordinate, or of each channel of an image."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from .base import Bijection


class ElementwiseAffine(Bijection):
    """z = x ⊙ exp(a) + b, with a and b learned; log|det ∂z/∂x| = Σ a.

    Arguments:
        shape: Shape of an event; a and b belong to its first dimension and are shared along the others.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        per_channel = (self.shape[0], *[1] * (len(self.shape) - 1))
        self.log_scale = nn.Parameter(torch.zeros(per_channel))
        self.shift = nn.Parameter(torch.zeros(per_channel))
        self._area = prod(self.shape[1:])

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_det = self.log_scale.sum() * self._area
        return x * self.log_scale.exp() + self.shift, log_det.expand(x.shape[0])

    def _inverse(self, z: Tensor) -> Tensor:
        return (z - self.shift) * (-self.log_scale).exp()

    @property
    def lipschitz_ceiling(self) -> float:
        return self.log_scale.detach().abs().max().exp().item()
