"""Targets with straight edges: unions of boxes, and two whose density jumps along a line.

A union of K boxes of equal area |B| has the density p(x) = 1 / (K |B|) inside, 0 outside, and the entropy log(K |B|).
Several pieces, or one with a sharp edge: what a flow of bounded Lipschitz constant can't make out of a Gaussian.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from ...config.fields import STRICT, registered, setting
from ...registry import DATASETS
from ..base import Box, Target, flat, log_normal, normal, square, uniform, within

__all__ = ["Boxes", "Checkerboard", "OneUniform", "SplitGaussian", "TwoLines", "TwoMarginals", "TwoUniforms"]


@dataclass(config=STRICT)
class Boxes(Target):
    """Uniform on a union of boxes of equal area that share no more than their edges.

    Subclasses set `boxes` and `window`, and `names` if there are several.
    """

    @property
    @abstractmethod
    def boxes(self) -> list[Box]:
        """The boxes."""

    def _edges(self) -> tuple[Tensor, Tensor]:
        """Low and high corners, each (K, 2)."""
        low, high = torch.tensor(self.boxes, dtype=torch.float64).unbind(-1)
        return low, high

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        low, high = self._edges()
        box = torch.randint(len(low), (n,), generator=generator)
        return torch.lerp(low[box], high[box], uniform(generator, n, 2))

    def log_prob(self, x: Tensor) -> Tensor:
        low, high = (edge.to(x.device) for edge in self._edges())
        return flat(within(x.double()[:, None], low, high).all(-1).any(-1), self.max_log_prob)

    def component(self, x: Tensor) -> Tensor:
        low, high = (edge.to(x.device) for edge in self._edges())
        inside = within(x.double()[:, None], low, high).all(-1)
        return torch.where(inside.any(-1), inside.int().argmax(-1), -1)

    @property
    def max_log_prob(self) -> float:
        low, high = self._edges()
        return -math.log((high - low).prod(-1).sum().item())

    @property
    def support(self) -> Box:
        low, high = self._edges()
        (a, c), (b, d) = low.amin(0).tolist(), high.amax(0).tolist()
        return (a, b), (c, d)


@registered(DATASETS, "one_uniform")
class OneUniform(Boxes):
    """Uniform on one square of side 1: the sharp edge alone, without a hole or a gap.

    p(x) = 1 on [-½, ½]²; entropy 0.

    Source: the experiments published with Cornish et al., "Relaxing bijectivity constraints", ICML 2020.
    """

    boxes: ClassVar = [square(0.5)]
    window: ClassVar = square(1.0)


@registered(DATASETS, "two_uniforms")
class TwoUniforms(Boxes):
    """Uniform on two rectangles, each 1 wide and 2 high, with a gap of 2 between them.

    p(x) = ¼ on [-2, -1] × [-1, 1] ∪ [1, 2] × [-1, 1]; entropy log 4.

    Source: Cornish et al., "Relaxing bijectivity constraints", ICML 2020.
    """

    names: ClassVar = ("left", "right")
    boxes: ClassVar = [((-2.0, -1.0), (-1.0, 1.0)), ((1.0, 2.0), (-1.0, 1.0))]
    window: ClassVar = (-3.0, 3.0), (-2.0, 2.0)


@registered(DATASETS, "two_lines")
class TwoLines(Boxes):
    """Uniform on two upright line segments at x₁ = ±1, each of length 2 and nearly without width.

    p(x) = 1 / (4 width) for |x₁ ± 1| ≤ ½ width and |x₂| ≤ 1; entropy log(4 width).

    Source: the experiments published with Cornish et al., "Relaxing bijectivity constraints", ICML 2020.
    """

    width: float = setting(0.01, "width of each segment", gt=0, le=1)

    names: ClassVar = ("left", "right")
    window: ClassVar = square(1.5)

    @property
    def boxes(self) -> list[Box]:
        return [((centre - self.width / 2, centre + self.width / 2), (-1.0, 1.0)) for centre in (-1.0, 1.0)]


@registered(DATASETS, "checkerboard")
class Checkerboard(Boxes):
    """Uniform on the eight squares of one colour of a 4 × 4 board; the squares touch at their corners.

    p(x) = 1/32 on the squares, of side 2, of [-4, 4]²; entropy log 32.

    Source: Grathwohl et al., "FFJORD", ICLR 2019.
    """

    names: ClassVar = ("a1", "a3", "b2", "b4", "c1", "c3", "d2", "d4")  # as on a chessboard
    # Low sides are at -4, -2, 0, 2. The square at the lower left belongs to the board; columns alternate.
    boxes: ClassVar = [
        ((a, a + 2.0), (b, b + 2.0)) for a in range(-4, 4, 2) for b in range(-4, 4, 2) if (a + b) % 4 == 0
    ]
    window: ClassVar = square(5.0)


@registered(DATASETS, "two_marginals")
class TwoMarginals(Target):
    """Uniform on two intervals in x₁, Gaussian in x₂: two bands with sharp sides and soft ends.

    p(x) = N(x₂; 0, 1) / (2 width) for |x₁ ± 1| ≤ ½ width; entropy log(2 width) + ½ log 2πe.

    Source: the experiments published with Cornish et al., "Relaxing bijectivity constraints", ICML 2020.
    """

    width: float = setting(0.5, "width of each band", gt=0, le=1)

    names: ClassVar = ("left", "right")
    window: ClassVar = (-1.5, 1.5), (-5.2, 5.2)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        sign = 2.0 * torch.randint(2, (n,), generator=generator) - 1
        x1 = sign + self.width * (uniform(generator, n) - 0.5)
        return torch.stack([x1, normal(generator, n)], -1)

    def log_prob(self, x: Tensor) -> Tensor:
        x1, x2 = x.double().unbind(-1)
        inside = within(x1.abs(), 1 - self.width / 2, 1 + self.width / 2)
        return torch.where(inside, log_normal(x2) - math.log(2 * self.width), -math.inf)

    def component(self, x: Tensor) -> Tensor:
        inside = within(x[:, 0].double().abs(), 1 - self.width / 2, 1 + self.width / 2)
        return torch.where(inside, (x[:, 0] > 0).long(), -1)

    @property
    def support(self) -> Box:
        return (-1 - self.width / 2, 1 + self.width / 2), (-math.inf, math.inf)


@registered(DATASETS, "split_gaussian")
class SplitGaussian(Target):
    """A Gaussian cut along x₁ = 0, its halves slid apart: the right one up, the left one down.

    p(x) = N(x₁; 0, 1) N(x₂; shift sign(x₁), 1); entropy log 2πe, as before the cut.

    Source: the experiments published with Cornish et al., "Relaxing bijectivity constraints", ICML 2020.
    """

    shift: float = setting(2.0, "how far each half is moved", ge=0)

    names: ClassVar = ("left", "right")

    def _slide(self, x1: Tensor) -> Tensor:
        return torch.full_like(x1, self.shift).copysign(x1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        x1, x2 = normal(generator, 2, n)
        return torch.stack([x1, x2 + self._slide(x1)], -1)

    def log_prob(self, x: Tensor) -> Tensor:
        x1, x2 = x.double().unbind(-1)
        return log_normal(x1) + log_normal(x2 - self._slide(x1))

    def component(self, x: Tensor) -> Tensor:
        return (x[:, 0] > 0).long()

    @property
    def window(self) -> Box:
        half = 5.2 + self.shift
        return (-5.2, 5.2), (-half, half)
