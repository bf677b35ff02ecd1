"""Gaussians: p_l and q_l of an index, and the base density p_0."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..compute.rng import normal

__all__ = ["DiagonalGaussian", "repeat", "standard_normal"]

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class DiagonalGaussian(NamedTuple):
    """N(mean, diag(exp(log_std))²), one a row: both (batch, *dim)."""

    mean: Tensor
    log_std: Tensor

    def log_prob(self, u: Tensor) -> Tensor:
        """Log-density at u (batch, dim), in nats, (batch,)."""
        noise = (u - self.mean) / torch.exp(self.log_std)
        return -self._constant() - torch.addcmul(self.log_std, noise, noise, value=0.5).flatten(1).sum(1)

    def sample(self) -> Tensor:
        """One reparametrised draw a row, (batch, dim)."""
        return self.draw()[0]

    def draw(self, count: int = 1) -> tuple[Tensor, Tensor]:
        """`count` reparametrised draws a row, (count · batch, dim): all rows once, then all rows again, …; and each
        draw's own log-density in nats, (count · batch,), which the noise that made it gives at once."""
        noise = self.noise(count)
        u = torch.addcmul(self.mean, torch.exp(self.log_std), noise)
        log_prob = -0.5 * noise.square().flatten(2).sum(2) - self._constant() - self.log_std.flatten(1).sum(1)
        return u.flatten(0, 1), log_prob.flatten()

    def noise(self, count: int) -> Tensor:
        """Standard normal numbers for `count` draws a row, (count, batch, dim)."""
        return normal((count, *self.mean.shape), self.mean, dim=1)

    def repeated(self, count: int) -> DiagonalGaussian:
        """All rows `count` times over: (count · batch, dim)."""
        return DiagonalGaussian(repeat(self.mean, count), repeat(self.log_std, count))

    def moved(self, mean: Tensor, log_std: Tensor) -> DiagonalGaussian:
        """The Gaussian whose mean is `mean` of this one's standard deviations from its mean, and its log-scale
        `log_std` above: N(μ + σ mean, (σ e^log_std)²)."""
        return DiagonalGaussian(torch.addcmul(self.mean, torch.exp(self.log_std), mean), self.log_std + log_std)

    def detached(self) -> DiagonalGaussian:
        """The same numbers, through which no gradient goes."""
        return DiagonalGaussian(self.mean.detach(), self.log_std.detach())

    def _constant(self) -> float:
        """log √(2π) for each dimension."""
        return LOG_SQRT_2PI * math.prod(self.mean.shape[1:])


def standard_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) of each row, (batch,), in nats."""
    return (-0.5 * z * z).flatten(1).sum(1) - LOG_SQRT_2PI * math.prod(z.shape[1:])


def repeat(x: Tensor, count: int) -> Tensor:
    """x (batch, …) `count` times over: (count · batch, …)."""
    return x if count == 1 else x.expand(count, *x.shape).flatten(0, 1)
