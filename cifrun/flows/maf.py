"""Masked autoregressive flow: each step is an affine map of every coordinate, given the coordinates before it.

    z_i = (x_i − μ_i(x_<i)) exp(−α_i(x_<i)),        log|det ∂z/∂x| = −Σ_i α_i

(μ, α) come from a masked network (MADE). They start at 0, so that the untrained flow only reorders x. The order of
coordinates is reversed before every step but the first.

Reference: Papamakarios, Pavlakou, Murray, "Masked autoregressive flow for density estimation", NeurIPS 2017
(https://arxiv.org/abs/1705.07057).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..bijections.autoregressive import Autoregressive
from ..bijections.base import Bijection
from ..bijections.univariate import Affine
from ..config.fields import Sizes, registered, setting
from ..registry import FLOWS
from .base import Activation, FlowConfig, flipped, with_norm


@registered(FLOWS, "maf")
class MAF(FlowConfig):
    """Masked autoregressive flow: affine given the coordinates before (Papamakarios et al., 2017)."""

    depth: int = setting(5, "number of autoregressive steps L", ge=1)
    hidden: Sizes = setting([50, 50, 50, 50], "hidden sizes of each step's masked network")
    activation: Activation = setting("tanh", "activation of the masked networks")

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        (features,) = self.flat(shape)
        steps = [
            Autoregressive(features, Affine(), self.hidden, self.activation, zero_init=True) for _ in range(self.depth)
        ]
        return flipped(with_norm(steps, self.norm))
