"""The first step of a model whose data are far from unit scale, or have much in common: an affine map by fixed numbers.

As steps of the model both leave log-likelihoods and samples in the units of the data. Their numbers are no parameters,
and are saved with the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from ..base import Bijection

__all__ = ["Standardize", "Whiten"]


class Standardize(Bijection):
    """z = (x − μ) / σ with μ and σ of each coordinate (each channel of an image); log|det ∂z/∂x| = −Σ log σ.

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


class Whiten(Bijection):
    """z = L⁻¹ (x − μ), with Σ = L Lᵀ the covariance and L lower triangular; log|det ∂z/∂x| = −Σ_i log L_ii.

    Arguments:
        shape: (D,).
        mean, factor: μ, (D,), and L, (D, D); left at 0 and I for a model whose weights will be loaded.
    """

    indexable = False
    mean: Tensor
    factor: Tensor

    def __init__(self, shape: Sequence[int], mean: Tensor | None = None, factor: Tensor | None = None) -> None:
        super().__init__(shape)
        (features,) = self.shape
        default = torch.get_default_dtype()
        self.register_buffer("mean", torch.zeros(features) if mean is None else mean.to(default))
        self.register_buffer("factor", torch.eye(features) if factor is None else factor.to(default))

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.linalg.solve_triangular(self.factor, (x - self.mean).T, upper=False).T
        return z, -self.factor.diagonal().log().sum().expand(len(x))

    def _inverse(self, z: Tensor) -> Tensor:
        return z @ self.factor.T + self.mean

    @property
    def lipschitz_ceiling(self) -> float:
        values = torch.linalg.svdvals(self.factor)
        return max(values[0].item(), 1 / values[-1].item())
