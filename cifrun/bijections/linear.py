"""Learned affine maps: of each number by itself, and by matrices in triangular factors, of vectors and of channels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Bijection

__all__ = ["ElementwiseAffine", "InvertibleConv", "LULinear"]


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


class InvertibleConv(Bijection):
    """An invertible 1×1 convolution: z = W x at each pixel, W = P L (U + diag(r ⊙ e^d)).

        log|det ∂z/∂x| = H W Σ_i d_i

    P is a permutation and r are signs, both fixed; L is unit lower and U strictly upper triangular. W starts as a
    random rotation, so that channels are mixed from the beginning.

    Arguments:
        shape: (C, H, W).

    Source: Kingma, Dhariwal, "Glow", NeurIPS 2018, section 3.2.
    """

    indexable = False
    order: Tensor
    sign: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        channels, height, width = self.shape
        self._area = height * width
        rotation = nn.init.orthogonal_(torch.empty(channels, channels, dtype=torch.float64))
        p, lower, upper = (m.to(torch.get_default_dtype()) for m in torch.linalg.lu(rotation))
        self.lower = nn.Parameter(lower)
        self.upper = nn.Parameter(upper)
        self.log_diagonal = nn.Parameter(upper.diagonal().abs().log())
        self.register_buffer("order", p.argmax(1))  # W x takes row i from row order[i] of L (…) x
        self.register_buffer("sign", upper.diagonal().sign())

    def _factors(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(self.shape[0], dtype=self.lower.dtype, device=self.lower.device)
        return self.lower.tril(-1) + identity, self.upper.triu(1) + (self.sign * self.log_diagonal.exp()).diag()

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors()
        with torch.autocast(x.device.type, enabled=False):  # what is kept as triangles has to be solved for exactly
            z = F.conv2d(x, (lower @ upper).index_select(0, self.order)[:, :, None, None])
        return z, (self._area * self.log_diagonal.sum()).expand(len(x))

    def _inverse(self, z: Tensor) -> Tensor:
        lower, upper = self._factors()
        y = z.movedim(1, 0).flatten(1).index_select(0, self.order.argsort())
        y = torch.linalg.solve_triangular(lower, y, upper=False, unitriangular=True)
        y = torch.linalg.solve_triangular(upper, y, upper=True)
        return y.unflatten(1, (len(z), *self.shape[1:])).movedim(0, 1)

    def describe(self) -> str:
        return f"InvertibleConv 1×1 of {self.shape[0]} channels"
