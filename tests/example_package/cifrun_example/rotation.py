"""Rotations of the plane, each with a scale of either axis: a flow in one file and without YAML.

z = exp(a) ⊙ R(θ) x,        log|det ∂z/∂x| = a_1 + a_2
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cifrun.bijections.base import Bijection
from cifrun.config.fields import registered, setting
from cifrun.errors import ConfigError
from cifrun.flows.base import FlowConfig, with_norm
from cifrun.registry import FLOWS

__all__ = ["Rotation", "RotationFlow"]


class Rotation(Bijection):
    """z = exp(a) ⊙ R(θ) x with θ and a learned.

    Arguments:
        angle: θ at first, in radians.
    """

    def __init__(self, angle: float) -> None:
        super().__init__((2,))
        self.angle = nn.Parameter(torch.tensor(angle))
        self.log_scale = nn.Parameter(torch.zeros(2))

    def _matrix(self) -> Tensor:
        cos, sin = self.angle.cos(), self.angle.sin()
        return torch.stack([torch.stack([cos, -sin]), torch.stack([sin, cos])])

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x @ self._matrix().T * self.log_scale.exp(), self.log_scale.sum().expand(len(x))

    def _inverse(self, z: Tensor) -> Tensor:
        return z * (-self.log_scale).exp() @ self._matrix()


@registered(FLOWS, "rotation")
class RotationFlow(FlowConfig):
    """Rotations of the plane, each with a scale of either axis."""

    depth: int = setting(3, "number of rotations L", ge=1)
    angle: float = setting(0.5, "angle of each rotation at first", unit="radians")

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        if self.flat(shape) != (2,):
            raise ConfigError(f"flow 'rotation' turns the plane, but this dataset has {shape[0]} dimensions")
        return with_norm([Rotation(self.angle) for _ in range(self.depth)], self.norm)
