"""A learned invertible matrix, kept as its triangular factors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Bijection

__all__ = ["PLULinear"]


class PLULinear(Bijection):
    """z = L U P x + b with P a random permutation, L unit lower and U upper triangular; log|det| = Σ_i log U_ii.

    The diagonal of U is exp(d), so no matrix is singular and none needs an O(D³) determinant. Starts at L = U = I.

    Arguments:
        features: D; events are of shape (D,).
        permute: Whether P is a random permutation, drawn once and saved with the weights; else P = I.
        generator: Draws P; torch's global generator if not given.

    Source: Kingma, Dhariwal, "Glow", NeurIPS 2018, section 3.2; Durkan et al., "Neural spline flows", NeurIPS 2019.
    """

    indexable = False
    order: Tensor

    def __init__(self, features: int, permute: bool = False, generator: torch.Generator | None = None) -> None:
        super().__init__((features,))
        order = torch.randperm(features, generator=generator) if permute else torch.arange(features)
        self.register_buffer("order", order)
        self.lower = nn.Parameter(torch.zeros(features, features))
        self.upper = nn.Parameter(torch.zeros(features, features))
        self.log_diagonal = nn.Parameter(torch.zeros(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def _factors(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(self.shape[0], dtype=self.lower.dtype, device=self.lower.device)
        return self.lower.tril(-1) + identity, self.upper.triu(1) + self.log_diagonal.exp().diag()

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors()
        z = F.linear(x.index_select(1, self.order), lower @ upper, self.bias)
        return z, self.log_diagonal.sum().expand(len(x))

    def _inverse(self, z: Tensor) -> Tensor:
        lower, upper = self._factors()
        y = torch.linalg.solve_triangular(lower, (z - self.bias).T, upper=False, unitriangular=True)
        x = torch.linalg.solve_triangular(upper, y, upper=True).T
        return x.index_select(1, self.order.argsort())
