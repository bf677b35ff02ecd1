"""Mixtures: Gaussians on a circle, and the bent Gaussians of the pinwheel.

A mixture of Gaussians N(c_k, σ² I) of weights w_k has log p(x) = log Σ_k w_k N(x; c_k, σ² I), a log-sum-exp.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from ...config.fields import registered, setting
from ...registry import DATASETS
from ..base import Box, Target, log_normal, normal, square

__all__ = ["EightGaussians", "Pinwheel", "in_chunks", "log_mixture"]


def in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, width: int) -> Tensor:
    """`function(x)`, row by row the same, for a function that needs `width` numbers a row in between.

    Chunks are small enough to stay in the processor's cache, so that this is also faster than all rows at once.
    """
    return torch.cat([function(part) for part in x.split(max(1, 2**17 // width))])


def log_mixture(x: Tensor, centres: Tensor, log_weights: Tensor, std: float) -> Tensor:
    """log Σ_k exp(log_weights_k) N(x; centres_k, std² I): (n, 2), (K, 2), (K,) → (n,), in nats."""
    # |x − c|² = |x|² − 2 x·c + |c|²: the part with both is one matrix product.
    bias = log_weights - centres.square().sum(-1) / (2 * std**2)
    slope = centres.T / std**2

    def joint(x: Tensor) -> Tensor:
        return torch.addmm(bias, x, slope).logsumexp(-1)

    return in_chunks(joint, x, len(centres)) - x.square().sum(-1) / (2 * std**2) - math.log(2 * math.pi * std**2)


@registered(DATASETS, "eight_gaussians")
class EightGaussians(Target):
    """Eight separate Gaussians, evenly spaced on a circle of radius 4 / √2.

    x = (4 (cos t, sin t) + noise N(0, I)) / √2, t a multiple of π/4.

    Source: Grathwohl et al., "FFJORD", ICLR 2019.
    """

    noise: float = setting(0.5, "standard deviation of each Gaussian before the division by √2", gt=0)

    names: ClassVar = tuple(f"{45 * k}°" for k in range(8))

    @property
    def _centres(self) -> Tensor:
        angle = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
        return 4 / math.sqrt(2) * torch.stack([angle.cos(), angle.sin()], -1)

    @property
    def _std(self) -> float:
        return self.noise / math.sqrt(2)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        centre = self._centres[torch.randint(8, (n,), generator=generator)]
        return centre + self._std * normal(generator, n, 2)

    def log_prob(self, x: Tensor) -> Tensor:
        centres = self._centres.to(x.device)
        return log_mixture(x.double(), centres, centres.new_full((8,), -math.log(8)), self._std)

    def component(self, x: Tensor) -> Tensor:
        """That of the nearest centre: an eighth of the plane each, of equal mass."""
        return torch.cdist(x.double(), self._centres.to(x.device)).argmin(1)

    @property
    def window(self) -> Box:
        return square(4 / math.sqrt(2) + 5 * self._std)


@registered(DATASETS, "pinwheel")
class Pinwheel(Target):
    """Five curved blades around a centre where they meet.

    x = 2 R(θ_k(f₁))ᵀ f,    f ~ N((1, 0), diag(0.3², tangential_std²)),    θ_k(f₁) = 2πk/5 + ¼ exp(f₁),    k uniform

    with R(θ) the rotation by θ: a blade is a long Gaussian, turned the more the further from the centre. The density is
    a change of variables for each k. With y = x/2 and e(θ) = (cos θ, −sin θ), e′(θ) = (sin θ, cos θ),

    p(x) = ⅕ Σ_k Σ_{f₁: y·e(θ_k(f₁)) = f₁} N(f₁; 1, 0.3²) N(f₂; 0, tangential_std²) / (4 |1 + ¼ exp(f₁) f₂|),
    f₂ = y·e′(θ_k(f₁))

    where far from the centre several f₁ may solve the equation, and all of them count.

    Source: Grathwohl et al., "FFJORD", ICLR 2019, after Johnson et al., "Composing graphical models with neural
    networks", NeurIPS 2016.
    """

    # The map folds where ¼ exp(f₁) f₂ = −1, and there the density is infinite: beyond lies 1e-9 of the mass for a
    # standard deviation of 0.1, 1e-5 for 0.2.
    tangential_std: float = setting(
        0.1, "standard deviation across a blade, before it is bent and scaled (at most 0.2)", gt=0, le=0.2
    )

    arms: ClassVar = 5
    rate: ClassVar = 0.25
    radial_std: ClassVar = 0.3

    def _angle(self, arm: Tensor, f1: Tensor) -> Tensor:
        return 2 * math.pi / self.arms * arm + self.rate * f1.exp()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        f1, f2 = normal(generator, 2, n)
        f1, f2 = 1 + self.radial_std * f1, self.tangential_std * f2
        angle = self._angle(torch.randint(self.arms, (n,), generator=generator), f1)
        cos, sin = angle.cos(), angle.sin()
        return 2 * torch.stack([f1 * cos + f2 * sin, f2 * cos - f1 * sin], -1)

    def log_prob(self, x: Tensor) -> Tensor:
        # Roots are looked for between nodes at most θ′ = ¼ exp(f₁) times 0.05 apart in angle, up to 8 standard
        # deviations from the mean of f₁: beyond are 1e-15 of the mass.
        scan = torch.linspace(-8, 8, 96 * self.resolution + 1, dtype=torch.float64, device=x.device)
        f1 = 1 + self.radial_std * scan
        arm = torch.arange(self.arms, device=x.device)
        angle = self._angle(arm[:, None], f1)
        directions = torch.stack([angle.cos(), -angle.sin()]).flatten(1)

        def solve(y: Tensor) -> Tensor:
            positive = ((y @ directions).unflatten(-1, angle.shape) - f1) >= 0
            row, k, left = (positive[..., 1:] != positive[..., :-1]).nonzero(as_tuple=True)
            return self._sum_over_roots(y, row, k, f1[left], f1[left + 1])

        return in_chunks(solve, x.double() / 2, angle.numel())

    def _sum_over_roots(self, y: Tensor, row: Tensor, arm: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """log p at each y, given for each root its row of y, its arm, and the interval that brackets f₁."""
        y1, y2 = y[row].unbind(-1)
        f1 = (low + high) / 2
        for _ in range(6):  # Newton's steps, kept in the bracket
            angle = self._angle(arm, f1)
            cos, sin = angle.cos(), angle.sin()
            slope = 1 + self.rate * f1.exp() * (y1 * sin + y2 * cos)
            f1 = (f1 + (y1 * cos - y2 * sin - f1) / slope).clamp(low, high)
        angle = self._angle(arm, f1)
        f2 = y1 * angle.sin() + y2 * angle.cos()
        log_jacobian = math.log(4) + (1 + self.rate * f1.exp() * f2).abs().log()
        terms = log_normal(f1 - 1, self.radial_std) + log_normal(f2, self.tangential_std) - log_jacobian
        largest = y.new_full((len(y),), -math.inf).scatter_reduce(0, row, terms, "amax")
        total = y.new_zeros(len(y)).index_add(0, row, (terms - largest[row]).exp())
        return total.log() + largest - math.log(self.arms)

    @property
    def window(self) -> Box:
        # |f₁| stays below 1 + 5 · 0.3, |f₂| below 5 tangential_std.
        return square(2 * math.hypot(1 + 5 * self.radial_std, 5 * self.tangential_std))
