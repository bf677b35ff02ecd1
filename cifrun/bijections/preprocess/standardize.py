"""The first step of a model whose data are far from unit scale, or have much in common: an affine map by fixed numbers.

As steps of the model both leave log-likelihoods and samples in the units of the data. Their numbers are no parameters,
and are saved with the weights.

Where numbers are large beside how much they vary, as times and coordinates are, single precision can't tell them apart.
Such data are given in double precision, and rounded when their mean has been subtracted; samples are made the same way.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from ..base import Bijection

__all__ = ["STEPS", "Centred", "Standardize", "Whiten", "precision_of"]

#: A standard deviation should have so many steps of the floating-point numbers at the mean.
STEPS = 1000


class Centred(Bijection):
    """What subtracts the mean of the data, which stays in double precision whatever that of the model is."""

    indexable = False
    mean: Tensor

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        mean = self.mean
        super()._apply(fn, recurse)
        self.mean = mean.to(self.mean.device)
        return self

    def _centre(self, x: Tensor, like: Tensor) -> Tensor:
        """x − μ, rounded to the precision of `like` if x has more digits."""
        wide = torch.promote_types(x.dtype, like.dtype)
        return (x.to(wide) - self.mean.to(wide)).to(like.dtype)

    def _shift(self, centred: Tensor) -> Tensor:
        """μ + what is centred, in double precision if there the data differ by too few steps of its own."""
        wide = torch.float64 if self._is_coarse(centred.dtype) else centred.dtype
        return centred.to(wide) + self.mean.to(wide)

    def _is_coarse(self, dtype: torch.dtype) -> bool:
        return bool((self._deviation() < STEPS * torch.finfo(dtype).eps * self.mean.abs()).any())

    @abstractmethod
    def _deviation(self) -> Tensor:
        """The standard deviations of the data, of the shape of the mean."""


def precision_of(first: Bijection, own: torch.dtype) -> torch.dtype:
    """The precision in which a model with this first step takes x; `own` is that of its weights."""
    return torch.float64 if isinstance(first, Centred) and first._is_coarse(own) else own


class Standardize(Centred):
    """z = (x − μ) / σ with μ and σ of each coordinate (each channel of an image); log|det ∂z/∂x| = −Σ log σ.

    Arguments:
        shape: Shape of an event; μ and σ belong to its first dimension and are shared along the others.
        mean, std: Of the training data, (shape[0],); left at 0 and 1 for a model whose weights will be loaded.
    """

    std: Tensor

    def __init__(self, shape: Sequence[int], mean: Tensor | None = None, std: Tensor | None = None) -> None:
        super().__init__(shape)
        per_channel = (self.shape[0], *[1] * (len(self.shape) - 1))
        default = torch.get_default_dtype()
        double = torch.zeros(per_channel, dtype=torch.float64) if mean is None else mean.double().view(per_channel)
        self.register_buffer("mean", double)
        self.register_buffer("std", torch.ones(per_channel) if std is None else std.to(default).view(per_channel))
        self._area = prod(self.shape[1:])

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_det = -self.std.log().sum() * self._area
        return self._centre(x, self.std) / self.std, log_det.expand(x.shape[0])

    def _inverse(self, z: Tensor) -> Tensor:
        return self._shift(z * self.std)

    def _deviation(self) -> Tensor:
        return self.std

    @property
    def lipschitz_ceiling(self) -> float:
        return self.std.log().abs().max().exp().item()


class Whiten(Centred):
    """z = L⁻¹ (x − μ), with Σ = L Lᵀ the covariance and L lower triangular; log|det ∂z/∂x| = −Σ_i log L_ii.

    Arguments:
        shape: (D,).
        mean, factor: μ, (D,), and L, (D, D); left at 0 and I for a model whose weights will be loaded.
    """

    factor: Tensor

    def __init__(self, shape: Sequence[int], mean: Tensor | None = None, factor: Tensor | None = None) -> None:
        super().__init__(shape)
        (features,) = self.shape
        default = torch.get_default_dtype()
        self.register_buffer("mean", torch.zeros(features, dtype=torch.float64) if mean is None else mean.double())
        self.register_buffer("factor", torch.eye(features) if factor is None else factor.to(default))

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.linalg.solve_triangular(self.factor, self._centre(x, self.factor).T, upper=False).T
        return z, -self.factor.diagonal().log().sum().expand(len(x))

    def _inverse(self, z: Tensor) -> Tensor:
        return self._shift(z @ self.factor.T)

    def _deviation(self) -> Tensor:
        return self.factor.norm(dim=1)

    @property
    def lipschitz_ceiling(self) -> float:
        values = torch.linalg.svdvals(self.factor)
        return max(values[0].item(), 1 / values[-1].item())
