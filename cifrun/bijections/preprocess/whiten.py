"""The first step of a model whose coordinates have much in common: mean 0 and covariance I, by fixed numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..base import Bijection

__all__ = ["Whiten"]


class Whiten(Bijection):
    """z = L⁻¹ (x − μ), with Σ = L Lᵀ the covariance and L lower triangular; log|det ∂z/∂x| = −Σ_i log L_ii.

    As a step of the model it leaves log-likelihoods and samples in the units of the data. μ and L are no parameters,
    and are saved with the weights.

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
