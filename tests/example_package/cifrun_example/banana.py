"""A bent Gaussian: a dataset in one file, with a YAML of its own in `conf/dataset/`."""

from __future__ import annotations

import torch
from torch import Tensor

from cifrun.config.fields import registered, setting
from cifrun.data.base import Box, Target, log_normal, normal
from cifrun.registry import DATASETS

__all__ = ["Banana"]


@registered(DATASETS, "banana")
class Banana(Target):
    """A Gaussian bent along a parabola.

    p(x) = N(x₁; 0, 1) N(x₂; bend (x₁² − 1), ½²); entropy log(½ · 2πe).
    """

    bend: float = setting(0.5, "curvature of the parabola")

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        x1, noise = normal(generator, 2, n)
        return torch.stack([x1, self.bend * (x1**2 - 1) + 0.5 * noise], -1)

    def log_prob(self, x: Tensor) -> Tensor:
        x1, x2 = x.double().unbind(-1)
        return log_normal(x1) + log_normal(x2 - self.bend * (x1**2 - 1), 0.5)

    @property
    def window(self) -> Box:
        tip = abs(self.bend) * 5.2**2 + 3
        return (-5.2, 5.2), (-tip, tip)
