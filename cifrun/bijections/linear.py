"""A learned invertible matrix, kept as its triangular factors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Bijection

__all__ = ["LULinear"]


class LULinear(Bijection):
    """z = L U x + b, with L unit lower and U upper triangular; log|det ∂z/∂x| = Σ_i log U_ii.

    With a `Permutation` before it this is the PLU form of a matrix. The diagonal of U is exp(d), so the matrix is never
    singular, and no determinant has to be computed. Starts at L = U = I.

    Arguments:
        shape: (D,).

    Source: Kingma, Dhariwal, "Glow", NeurIPS 2018, section 3.2; Durkan et al., "Neural spline flows", NeurIPS 2019.
    """

    indexable = False

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        (features,) = self.shape
        self.lower = nn.Parameter(torch.zeros(features, features))
        self.upper = nn.Parameter(torch.zeros(features, features))
        self.log_diagonal = nn.Parameter(torch.zeros(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def _factors(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(self.shape[0], dtype=self.lower.dtype, device=self.lower.device)
        return self.lower.tril(-1) + identity, self.upper.triu(1) + self.log_diagonal.exp().diag()

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors()
        return F.linear(x, lower @ upper, self.bias), self.log_diagonal.sum().expand(len(x))

    def _inverse(self, z: Tensor) -> Tensor:
        lower, upper = self._factors()
        y = torch.linalg.solve_triangular(lower, (z - self.bias).T, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, y, upper=True).T

    @property
    def lipschitz_ceiling(self) -> float:
        lower, upper = self._factors()
        values = torch.linalg.svdvals((lower @ upper).detach())
        return max(values[0].item(), 1 / values[-1].item())
