"""Sum-of-squares flow: each step is an increasing polynomial of every coordinate, given the coordinates before it.

    z_i = t_i(x_<i) + ∫_0^{x_i} Σ_k p_k(v; x_<i)² dv,        p_k of degree L

t and the coefficients come from a masked network. The order of coordinates is reversed before every step but the first.
The inverse is a root search, coordinate by coordinate.

Reference: Jaini, Selby, Yu, "Sum-of-squares polynomial flow", ICML 2019 (https://arxiv.org/abs/1905.02325).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..bijections.autoregressive import Autoregressive
from ..bijections.base import Bijection
from ..bijections.sos import SumOfSquares
from ..config.fields import Sizes, registered, setting
from ..registry import FLOWS
from .base import Activation, FlowConfig, flipped, with_norm


@registered(FLOWS, "sos")
class SOS(FlowConfig):
    """Sum-of-squares flow: increasing polynomials given the coordinates before (Jaini et al., 2019)."""

    depth: int = setting(3, "number of autoregressive steps L", ge=1)
    hidden: Sizes = setting([40, 40], "hidden sizes of each step's masked network")
    activation: Activation = setting("tanh", "activation of the masked networks")
    polynomials: int = setting(2, "squared polynomials in a sum", ge=1)
    degree: int = setting(4, "degree of each of them", ge=0, le=16)
    bound: float = setting(5.0, "B: outside [-B, B] a step goes on as a straight line", gt=0)

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        (features,) = self.flat(shape)
        polynomial = SumOfSquares(self.polynomials, self.degree, self.bound)
        steps = [
            Autoregressive(features, polynomial, self.hidden, self.activation, zero_init=True)
            for _ in range(self.depth)
        ]
        return flipped(with_norm(steps, self.norm))
