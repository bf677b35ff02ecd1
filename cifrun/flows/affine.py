"""Affine flow: each step scales and shifts every coordinate.

    z = x ⊙ exp(a) + b,        log|det ∂z/∂x| = Σ_i a_i

On its own a Gaussian with independent coordinates, however many steps; indexed, a mixture of such.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..bijections.base import Bijection
from ..bijections.linear import ElementwiseAffine
from ..config.fields import registered, setting
from ..registry import FLOWS
from .base import FlowConfig, with_norm


@registered(FLOWS, "affine")
class AffineFlow(FlowConfig):
    """Affine flow: scales and shifts each coordinate (each channel of an image)."""

    depth: int = setting(10, "number of affine steps L", ge=1)

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        return with_norm([ElementwiseAffine(shape) for _ in range(self.depth)], self.norm)
