"""A target and a density that several tests draw."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cifrun.data.base import Box, Target


class Boxes(Target):
    """Uniform on two unit-by-two boxes."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        x = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        side = torch.randint(2, (n,), generator=generator) * 2 - 1
        return torch.stack([side * (1 + x[:, 0]), 2 * x[:, 1] - 1], 1)

    def log_prob(self, x: Tensor) -> Tensor:
        inside = (x[:, 0].abs() > 1) & (x[:, 0].abs() < 2) & (x[:, 1].abs() < 1)
        return torch.where(inside, -math.log(4), -math.inf).double()

    @property
    def window(self) -> Box:
        return (-2.0, 2.0), (-1.0, 1.0)


def standard_normal(x: Tensor) -> Tensor:
    return -x.square().sum(1) / 2 - math.log(2 * math.pi)
