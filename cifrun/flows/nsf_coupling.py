"""Neural spline flow, coupling: each step bends one half of the coordinates by splines, given the other half.

    z_a = f(x_a; φ),    z_b = f(x_b; h(x_a)),        f a monotone rational-quadratic spline on [−B, B]

φ are free parameters: the half that h looks at is bent too. Coordinates are permuted at random before every step and
after the last; a learned matrix in triangular factors may follow each permutation.

Reference: Durkan, Bekasov, Murray, Papamakarios, "Neural spline flows", NeurIPS 2019, section 3
(https://arxiv.org/abs/1906.04032).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..bijections.base import Bijection
from ..bijections.coupling import Coupling
from ..bijections.spline import RationalQuadraticSpline
from ..config.fields import Sizes, registered, setting
from ..registry import FLOWS
from .base import Activation, FlowConfig, mixed, with_norm


@registered(FLOWS, "nsf_coupling")
class NSFCoupling(FlowConfig):
    """Neural spline flow, coupling: rational-quadratic splines (Durkan et al., 2019)."""

    depth: int = setting(5, "number of coupling steps L", ge=1)
    hidden: Sizes = setting([256, 256], "hidden sizes of each step's network")
    activation: Activation = setting("relu", "activation of the networks")
    bins: int = setting(8, "bins of a spline", ge=2)
    bound: float = setting(3.0, "B: a spline acts on [-B, B]; outside it is the identity", gt=0)
    linear: bool = setting(False, "a learned LU matrix after each permutation")

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        (features,) = self.flat(shape, minimum=2)
        spline = RationalQuadraticSpline(self.bins, self.bound)
        steps = [
            Coupling(features, spline, self.hidden, self.activation, unconditional=True, zero_init=True)
            for _ in range(self.depth)
        ]
        return mixed(with_norm(steps, self.norm), self.linear)
