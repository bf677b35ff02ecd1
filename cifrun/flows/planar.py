"""Planar flow: each step moves x along one direction, by how far it lies along another.

    z = x + û tanh(wᵀx + b),        log|det ∂z/∂x| = log(1 + wᵀû sech²(wᵀx + b))

Here the planar map runs from x to z, so that a density costs one pass; its inverse is a root search along w.

Reference: Rezende, Mohamed, "Variational inference with normalizing flows", ICML 2015
(https://arxiv.org/abs/1505.05770).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..bijections.base import Bijection
from ..bijections.planar import Planar
from ..config.fields import registered, setting
from ..registry import FLOWS
from .base import FlowConfig, with_norm


@registered(FLOWS, "planar")
class PlanarFlow(FlowConfig):
    """Planar flow: moves along one direction (Rezende and Mohamed, 2015)."""

    depth: int = setting(10, "number of planar steps L", ge=1)

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        (features,) = self.flat(shape)
        return with_norm([Planar(features) for _ in range(self.depth)], self.norm)
