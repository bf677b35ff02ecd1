"""Block neural autoregressive flow: a step is one network whose own weights make it triangular and increasing.

    z = W_n φ(… φ(W_1 x + b_1) …) + b_n,        blocks of W: 0 above the diagonal, positive on it

The order of coordinates is reversed before every step but the first. The inverse is a root search, coordinate by
coordinate.

Reference: De Cao, Titov, Aziz, "Block neural autoregressive flow", UAI 2019 (https://arxiv.org/abs/1904.04676).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..bijections.base import Bijection
from ..bijections.bnaf import BlockAutoregressive
from ..config.fields import registered, setting
from ..registry import FLOWS
from .base import FlowConfig, flipped, with_norm


@registered(FLOWS, "bnaf")
class BNAF(FlowConfig):
    """Block neural autoregressive flow: one monotone network a step (De Cao et al., 2019)."""

    depth: int = setting(1, "number of autoregressive steps L", ge=1)
    layers: int = setting(3, "hidden layers of each step's network", ge=1)
    width: int = setting(50, "hidden units a coordinate has in each layer", ge=1)

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        (features,) = self.flat(shape)
        steps = [BlockAutoregressive(features, self.width, self.layers) for _ in range(self.depth)]
        return flipped(with_norm(steps, self.norm))
