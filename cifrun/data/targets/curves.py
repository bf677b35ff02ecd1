"""Targets along a curve, blurred by noise: moons, spirals, the roll.

With c(t) the curve, t on [a, b] of density w(t), and k the density of the noise,

    p(x) = ∫ w(t) k(x − c(t)) dt,

by Gauss–Legendre quadrature on panels of equal arc length, of a few standard deviations of the noise each. log p(x) is
exact to 1e-4 where p exceeds a millionth of its maximum, for any noise allowed; further out it is finite. Two of the
targets are a curve and its point reflection x ↦ m − x in equal shares: p(x) → ½ (p(x) + p(m − x)).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from ...config.fields import STRICT, registered, setting
from ...registry import DATASETS
from ..base import Box, Target, normal, uniform
from .mixtures import in_chunks, log_mixture

__all__ = ["NoisyCurve", "SwissRoll", "TwoMoons", "TwoSpirals"]

#: Nodes of a panel, and the longest panel in standard deviations of the noise.
PANEL_NODES = 12
PANEL_LENGTH = 5.0


@dataclass(config=STRICT)
class NoisyCurve(Target):
    """A curve with noise around it, and its point reflection if `mirror` is set.

    Subclasses write `curve`, set `interval`, and change what differs from t uniform and Gaussian noise; `names` are
    those of the curve and its reflection.
    """

    noise: float = setting(0.1, "standard deviation of the noise (at least 0.01)", ge=0.01)

    interval: ClassVar[tuple[float, float]]
    #: m of the reflection x ↦ m − x that half of the points undergo.
    mirror: ClassVar[tuple[float, float] | None] = None
    #: What curve and noise are divided by.
    scale: ClassVar[float] = 1.0

    @abstractmethod
    def curve(self, t: Tensor) -> Tensor:
        """c(t) before the division by `scale`: (n,) → (n, 2)."""

    def quantile(self, u: Tensor) -> Tensor:
        """t for u uniform on [0, 1]."""
        low, high = self.interval
        return low + (high - low) * u

    def density(self, t: Tensor) -> Tensor:
        """w(t), the density of t."""
        low, high = self.interval
        return torch.full_like(t, 1 / (high - low))

    def jitter(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws of the noise, (n, 2)."""
        return self._std * normal(generator, n, 2)

    def log_blur(self, x: Tensor, centres: Tensor, log_weights: Tensor) -> Tensor:
        """log Σ_j exp(log_weights_j) k(x − centres_j), (n,)."""
        return log_mixture(x, centres, log_weights, self._std)

    @property
    def _std(self) -> float:
        return self.noise / self.scale

    def _outline(self) -> tuple[Tensor, Tensor]:
        """t on a fine grid, and c(t) / scale there."""
        t = torch.linspace(*self.interval, 2001, dtype=torch.float64)
        return t, self.curve(t) / self.scale

    def _nodes(self) -> tuple[Tensor, Tensor]:
        """The centres c(t_j) and log-weights of the quadrature, (J, 2) and (J,)."""
        t, points = self._outline()
        length = np.concatenate([[0.0], points.diff(dim=0).norm(dim=-1).cumsum(0).numpy()])
        # However broad the noise, the panels must resolve the bends of the curve itself.
        panels = max(8, math.ceil(length[-1] / (PANEL_LENGTH * self._std))) * self.resolution
        edges = torch.from_numpy(np.interp(np.linspace(0, length[-1], panels + 1), length, t.numpy()))
        node, weight = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(PANEL_NODES))
        half = edges.diff()[:, None] / 2
        t = (edges[:-1, None] + half * (1 + node)).flatten()
        return self.curve(t) / self.scale, ((half * weight).flatten() * self.density(t)).log()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        x = self.curve(self.quantile(uniform(generator, n))) / self.scale + self.jitter(n, generator)
        if self.mirror is None:
            return x
        reflect = torch.randint(2, (n, 1), generator=generator, dtype=torch.bool)
        return torch.where(reflect, torch.tensor(self.mirror, dtype=torch.float64) - x, x)

    def log_prob(self, x: Tensor) -> Tensor:
        each = self._log_each(x.double())
        return each[0] if len(each) == 1 else torch.logaddexp(*each) - math.log(2)

    def _log_each(self, x: Tensor) -> list[Tensor]:
        """The log-density around the curve and, if there is one, around its reflection."""
        centres, log_weights = (a.to(x.device) for a in self._nodes())
        each = [self.log_blur(x, centres, log_weights)]
        if self.mirror is not None:
            image = torch.tensor(self.mirror, dtype=torch.float64, device=x.device) - x
            each.append(self.log_blur(image, centres, log_weights))
        return each

    def component(self, x: Tensor) -> Tensor:
        """The curve of which each x is more probable: reflection swaps them, so each has half of the mass."""
        if not self.names:
            return super().component(x)
        return torch.stack(self._log_each(x.double())).argmax(0)

    @property
    def window(self) -> Box:
        points = self._outline()[1]
        if self.mirror is not None:
            points = torch.cat([points, torch.tensor(self.mirror, dtype=torch.float64) - points])
        (a, c), (b, d) = (points.amin(0) - 5 * self._std).tolist(), (points.amax(0) + 5 * self._std).tolist()
        return (a, b), (c, d)


@registered(DATASETS, "two_moons")
class TwoMoons(NoisyCurve):
    """Two interleaved half circles of radius 1 with noise around them.

    x = (cos t, sin t) + noise N(0, I) or x = (1 − cos t, ½ − sin t) + noise N(0, I), t ~ U(0, π).

    Source: `make_moons` of scikit-learn; not standardised.
    """

    interval: ClassVar = (0.0, math.pi)
    mirror: ClassVar = (1.0, 0.5)
    names: ClassVar = ("upper", "lower")

    def curve(self, t: Tensor) -> Tensor:
        return torch.stack([t.cos(), t.sin()], -1)


@registered(DATASETS, "swiss_roll")
class SwissRoll(NoisyCurve):
    """A spiral strip that winds one and a half times around the origin.

    x = ((t cos t, t sin t) + noise N(0, I)) / 5, t ~ U(3π/2, 9π/2).

    Source: Grathwohl et al., "FFJORD", ICLR 2019, from `make_swiss_roll` of scikit-learn.
    """

    noise: float = setting(1.0, "standard deviation of the noise before the division by 5 (at least 0.05)", ge=0.05)

    interval: ClassVar = (1.5 * math.pi, 4.5 * math.pi)
    scale: ClassVar = 5.0

    def curve(self, t: Tensor) -> Tensor:
        return torch.stack([t * t.cos(), t * t.sin()], -1)


@registered(DATASETS, "two_spirals")
class TwoSpirals(NoisyCurve):
    """Two spiral arms that leave the centre in opposite directions and wind around each other.

    x = ± (t (−cos t, sin t) + U(0, ½)²) / 3 + noise N(0, I), t = 3π √U(0, 1).

    In each coordinate the noise is a uniform and a Gaussian one: k(d) = 6 ∫ N(d; u, noise²) du over 0 ≤ u ≤ 1/6.

    Source: Grathwohl et al., "FFJORD", ICLR 2019.
    """

    noise: float = setting(0.1, "standard deviation of the Gaussian part of the noise (at least 0.05)", ge=0.05)

    interval: ClassVar = (0.0, 3 * math.pi)
    mirror: ClassVar = (0.0, 0.0)
    names: ClassVar = ("first arm", "second arm")
    breadth: ClassVar = 1 / 6

    def curve(self, t: Tensor) -> Tensor:
        return torch.stack([-t * t.cos(), t * t.sin()], -1) / 3

    def quantile(self, u: Tensor) -> Tensor:
        return self.interval[1] * u.sqrt()

    def density(self, t: Tensor) -> Tensor:
        return 2 * t / self.interval[1] ** 2

    def jitter(self, n: int, generator: torch.Generator) -> Tensor:
        return self.breadth * uniform(generator, n, 2) + self.noise * normal(generator, n, 2)

    def log_blur(self, x: Tensor, centres: Tensor, log_weights: Tensor) -> Tensor:
        # With u counted from the middle of its range and d = x − c, in one coordinate
        #   N(d; u, σ²) = N(d; 0, σ²) exp(−u²/2σ²) exp(xu/σ²) exp(−cu/σ²),
        # so that the sum over the nodes u is a matrix product of the factors with x and those with c: far cheaper than
        # the difference of two error functions for every pair of x and c, and all terms are positive.
        # exp(|c|u/σ²) stays below e¹¹⁰ for σ ≥ 0.05; the largest factor with x is taken out of each row.
        precision = 1 / self.noise**2
        centres = centres + self.breadth / 2
        node, weight = (torch.from_numpy(a).to(x.device) for a in np.polynomial.legendre.leggauss(12 * self.resolution))
        u = self.breadth / 2 * node
        log_v = (weight / 2).log() - precision / 2 * u.square()
        with_c = (-precision * u[:, None] * centres.T[:, None]).exp()
        bias = log_weights - precision / 2 * centres.square().sum(-1)

        def joint(x: Tensor) -> Tensor:
            exponent = torch.addmm(bias, x, precision * centres.T)
            largest = exponent.amax(-1, keepdim=True)
            log_with_x = log_v + precision * x.T[..., None] * u
            top = log_with_x.amax(-1, keepdim=True)
            uniform_part = ((log_with_x - top).exp() @ with_c).prod(0)
            total = ((exponent - largest).exp() * uniform_part).sum(-1)
            return total.log() + largest[:, 0] + top.sum((0, -1))

        log_scale = math.log(2 * math.pi * self.noise**2)
        return in_chunks(joint, x, len(centres)) - precision / 2 * x.square().sum(-1) - log_scale

    @property
    def window(self) -> Box:
        (a, b), (c, d) = super().window
        return (a - self.breadth, b + self.breadth), (c - self.breadth, d + self.breadth)
