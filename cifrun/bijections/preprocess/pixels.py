"""The first step of a model of images: from grey levels in [0, levels) to numbers that a flow likes.

    Logit      y = logit(λ + (1 − 2λ) x / levels)       from an interval to the whole line
    Centre     y = x / levels − 1/2                     to [−1/2, 1/2)

As steps of the model they leave log-likelihoods and samples in the unit of the data, a grey level, so that a density of
dequantised images bounds the probability of the images themselves.

Reference: Dinh, Sohl-Dickstein, Bengio, "Density estimation using Real NVP", ICLR 2017, section 4.1
(https://arxiv.org/abs/1605.08803).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..base import Bijection

__all__ = ["Centre", "Logit"]


class Centre(Bijection):
    """y = x / levels − 1/2; log|det ∂y/∂x| = −D log levels.

    Arguments:
        shape: Shape of an event, of D numbers.
        levels: Grey levels; no parameter, but saved with the weights.
    """

    indexable = False
    levels: Tensor

    def __init__(self, shape: Sequence[int], levels: int = 256) -> None:
        super().__init__(shape)
        self.register_buffer("levels", torch.tensor(float(levels)))
        self._size = math.prod(self.shape)

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x / self.levels - 0.5, (-self._size * self.levels.log()).expand(len(x))

    def _inverse(self, z: Tensor) -> Tensor:
        return (z + 0.5) * self.levels


class Logit(Bijection):
    """y = log a − log b with a = λ + (1 − 2λ) x / levels and b = 1 − a = λ + (1 − 2λ) (1 − x / levels).

    log|det ∂y/∂x| = Σ_i log(1 − 2λ) − log levels − log a_i − log b_i. Without λ > 0 a black pixel would be at minus
    infinity; with it, a model may leave a little of its mass outside of [0, levels), and the bound stays one. a and b
    are computed apart, so that no digit is lost where a is near 1.

    Arguments:
        shape: Shape of an event.
        levels, lam: Grey levels, and λ in (0, 1/2); no parameters, but saved with the weights.
    """

    indexable = False
    levels: Tensor
    lam: Tensor

    def __init__(self, shape: Sequence[int], levels: int = 256, lam: float = 0.05) -> None:
        super().__init__(shape)
        self.register_buffer("levels", torch.tensor(float(levels)))
        self.register_buffer("lam", torch.tensor(lam))
        self._size = math.prod(self.shape)

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        share, stretch = x / self.levels, 1 - 2 * self.lam
        log_a, log_b = (self.lam + stretch * share).log(), (self.lam + stretch * (1 - share)).log()
        constant = self._size * (stretch.log() - self.levels.log())
        return log_a - log_b, constant - (log_a + log_b).flatten(1).sum(1)

    def _inverse(self, z: Tensor) -> Tensor:
        return self.levels * (torch.sigmoid(z) - self.lam) / (1 - 2 * self.lam)
