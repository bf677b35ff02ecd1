"""Real NVP: each step is an affine map of one half of the coordinates, given the other half.

    z_a = x_a,    z_b = (x_b + t(x_a)) ⊙ exp(s(x_a)),        log|det ∂z/∂x| = Σ s(x_a)

a and b are the even and the odd coordinates, and change places from step to step.

Reference: Dinh, Sohl-Dickstein, Bengio, "Density estimation using Real NVP", ICLR 2017
(https://arxiv.org/abs/1605.08803).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..bijections.base import Bijection
from ..bijections.coupling import Coupling
from ..bijections.univariate import Affine
from ..config.fields import Sizes, registered, setting
from ..registry import FLOWS
from .base import Activation, FlowConfig, with_norm


@registered(FLOWS, "realnvp")
class RealNVP(FlowConfig):
    """Real NVP: affine couplings with alternating masks (Dinh et al., 2017)."""

    depth: int = setting(8, "number of coupling steps L", ge=1)
    hidden: Sizes = setting([64, 64], "hidden sizes of each step's networks")
    activation: Activation = setting("tanh", "activation of the networks")
    shared_nets: bool = setting(True, "one network for s and t (true) or one for each (false)")

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        (features,) = self.flat(shape, minimum=2)
        steps = [
            Coupling(features, Affine(), self.hidden, self.activation, parity=i, shared_nets=self.shared_nets)
            for i in range(self.depth)
        ]
        return with_norm(steps, self.norm)
