"""Targets around a hole: the annulus, and circles blurred by noise.

A circle of radius R blurred by N(0, σ² I) has, at distance r from its centre, the density

    p(x) = (1 / 2πσ²) exp(−(r² + R²) / 2σ²) I₀(rR/σ²) = (1 / 2πσ²) exp(−(r − R)² / 2σ²) i0e(rR/σ²)

where I₀ is the modified Bessel function and i0e(a) = exp(−a) I₀(a), which does not overflow.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from ...config.fields import STRICT, registered, setting
from ...registry import DATASETS
from ..base import Box, Target, flat, log_normal, normal, square, uniform, within

__all__ = ["Annulus", "BlurredCircles", "Circles", "Rings"]


def _on_circle(radius: Tensor, generator: torch.Generator) -> Tensor:
    """A point at a uniform angle on each circle of `radius`, (n,) → (n, 2)."""
    angle = 2 * math.pi * uniform(generator, len(radius))
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], -1)


@registered(DATASETS, "annulus")
class Annulus(Target):
    """Uniform between two circles of radius 1 and 2: one piece, with a hole and sharp edges.

    p(x) = 1 / 3π for 1 ≤ |x| ≤ 2; entropy log 3π.

    Source: the experiments published with Cornish et al., "Relaxing bijectivity constraints", ICML 2020.
    """

    window: ClassVar = square(2.5)
    support: ClassVar = square(2.0)
    max_log_prob: ClassVar = -math.log(3 * math.pi)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        # Area grows with r², so r² is what is uniform.
        return _on_circle((1 + 3 * uniform(generator, n)).sqrt(), generator)

    def log_prob(self, x: Tensor) -> Tensor:
        radius = torch.linalg.vector_norm(x.double(), dim=-1)
        return flat(within(radius, 1.0, 2.0), self.max_log_prob)


@dataclass(config=STRICT)
class BlurredCircles(Target):
    """Concentric circles of equal weight with Gaussian noise of standard deviation `noise`. Subclasses set `radii`."""

    noise: float = setting(0.1, "standard deviation of the noise", gt=0)

    radii: ClassVar[tuple[float, ...]] = ()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        radii = torch.tensor(self.radii, dtype=torch.float64)
        radius = radii[torch.randint(len(radii), (n,), generator=generator)]
        return _on_circle(radius, generator) + self.noise * normal(generator, n, 2)

    def log_prob(self, x: Tensor) -> Tensor:
        x = x.double()
        r = torch.linalg.vector_norm(x, dim=-1)[:, None]
        radii = torch.tensor(self.radii, dtype=torch.float64, device=x.device)
        # The Gaussian in r brings 1 / √(2π)σ; the other one completes 1 / 2πσ².
        other = math.log(self.noise) + 0.5 * math.log(2 * math.pi)
        each = log_normal(r - radii, self.noise) - other + torch.special.i0e(r * radii / self.noise**2).log()
        return each.logsumexp(-1) - math.log(len(radii))

    def _borders(self) -> Tensor:
        """The radii halfway between one circle and the next."""
        radii = torch.tensor(self.radii, dtype=torch.float64)
        return (radii[1:] + radii[:-1]) / 2

    @property
    def components(self) -> dict[str, float]:
        from scipy.stats import ncx2

        # r² / σ² of a blurred circle is non-central χ² of two degrees of freedom, and R² / σ² its non-centrality.
        edges = [0.0, *(self._borders() / self.noise).square().tolist(), math.inf]
        below = [sum(float(ncx2.cdf(e, 2, (r / self.noise) ** 2)) for r in self.radii) for e in edges]
        masses = [(b - a) / len(self.radii) for a, b in pairwise(below)]
        return {f"r = {r:g}": mass for r, mass in zip(self.radii, masses, strict=True)}

    def component(self, x: Tensor) -> Tensor:
        """That of the nearest circle: the plane is cut halfway between one radius and the next."""
        return torch.bucketize(torch.linalg.vector_norm(x.double(), dim=-1), self._borders().to(x.device))

    @property
    def window(self) -> Box:
        return square(max(self.radii) + 5 * self.noise)


@registered(DATASETS, "rings")
class Rings(BlurredCircles):
    """Four concentric rings of radius ¾, 1½, 2¼ and 3, thin and of equal weight.

    x = R (cos t, sin t) + noise N(0, I), R one of the four radii, t ~ U(0, 2π).

    Source: Cornish et al., "Relaxing bijectivity constraints", ICML 2020, after Behrmann et al., "Invertible residual
    networks", ICML 2019.
    """

    noise: float = setting(0.08, "standard deviation of the noise", gt=0)

    radii: ClassVar = (0.75, 1.5, 2.25, 3.0)


@registered(DATASETS, "circles")
class Circles(BlurredCircles):
    """Two concentric rings of radius 1½ and 3, broad enough to be nearly joined.

    x = R (cos t, sin t) + noise N(0, I), R one of the two radii, t ~ U(0, 2π).

    Source: Grathwohl et al., "FFJORD", ICLR 2019.
    """

    noise: float = setting(0.24, "standard deviation of the noise", gt=0)

    radii: ClassVar = (1.5, 3.0)
