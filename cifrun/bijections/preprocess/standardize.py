"""The first step of a model whose data are far from unit scale: mean 0 and standard deviation 1, by fixed numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from ..base import Bijection

__all__ = ["Standardize"]


class Standardize(Bijection):
    """z = (x − μ) / σ with μ and σ of each coordinate (each channel of an image); log|det ∂z/∂x| = −Σ log σ.

    As a step of the model it leaves log-likelihoods and samples in the units of the data. μ and σ are no parameters,
    and are saved with the weights.

    Arguments:
        shape: Shape of an event; μ and σ belong to its first dimension and are shared along the others.
        mean, std: Of the training data, (shape[0],); left at 0 and 1 for a model whose weights will be loaded.
    """

    indexable = False
    mean: Tensor
    std: Tensor

    def __init__(self, shape: Sequence[int], mean: Tensor | None = None, std: Tensor | None = None) -> None:
        super().__init__(shape)
        per_channel = (self.shape[0], *[1] * (len(self.shape) - 1))
        default = torch.get_default_dtype()
        self.register_buffer("mean", torch.zeros(per_channel) if mean is None else mean.to(default).view(per_channel))
        self.register_buffer("std", torch.ones(per_channel) if std is None else std.to(default).view(per_channel))
        self._area = prod(self.shape[1:])

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_det = -self.std.log().sum() * self._area
        return (x - self.mean) / self.std, log_det.expand(x.shape[0])

    def _inverse(self, z: Tensor) -> Tensor:
        return z * self.std + self.mean

    @property
    def lipschitz_ceiling(self) -> float:
        return self.std.log().abs().max().exp().item()
