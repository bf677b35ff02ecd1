"""Neural spline flow, autoregressive: each step bends every coordinate by a spline, given the coordinates before it.

    z_i = f(x_i; h_i(x_<i)),        f a monotone rational-quadratic spline on [−B, B], the identity outside

h comes from a masked network. Coordinates are permuted at random before every step and after the last; a learned matrix
in triangular factors may follow each permutation.

Reference: Durkan, Bekasov, Murray, Papamakarios, "Neural spline flows", NeurIPS 2019
(https://arxiv.org/abs/1906.04032).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..bijections.autoregressive import Autoregressive
from ..bijections.base import Bijection
from ..bijections.spline import RationalQuadraticSpline
from ..config.fields import Sizes, registered, setting
from ..registry import FLOWS
from .base import Activation, FlowConfig, mixed, with_norm


@registered(FLOWS, "nsf_ar")
class NSFAutoregressive(FlowConfig):
    """Neural spline flow, autoregressive: rational-quadratic splines (Durkan et al., 2019)."""

    depth: int = setting(5, "number of autoregressive steps L", ge=1)
    hidden: Sizes = setting([256, 256], "hidden sizes of each step's masked network")
    activation: Activation = setting("relu", "activation of the masked networks")
    residual: bool = setting(False, "add a hidden layer's input to its output where the sizes agree")
    bins: int = setting(8, "bins of a spline", ge=2)
    bound: float = setting(3.0, "B: a spline acts on [-B, B]; outside it is the identity", gt=0)
    linear: bool = setting(False, "a learned LU matrix after each permutation")

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        (features,) = self.flat(shape)
        spline = RationalQuadraticSpline(self.bins, self.bound)
        steps = [
            Autoregressive(features, spline, self.hidden, self.activation, self.residual, zero_init=True)
            for _ in range(self.depth)
        ]
        return mixed(with_norm(steps, self.norm), self.linear)
