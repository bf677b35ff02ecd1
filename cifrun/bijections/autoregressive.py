"""Masked autoregressive maps: coordinate i is transformed given the coordinates before it.

    z_i = f(x_i; h_i(x_<i)),        log|det ∂z/∂x| = Σ_i log ∂f/∂x_i

f is affine in a masked autoregressive flow, a spline in a neural spline flow, a polynomial in a sum-of-squares flow.

Source: Papamakarios, Pavlakou, Murray, "Masked autoregressive flow for density estimation", NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..nets.masked import MaskedMLP
from .base import Bijection
from .univariate import Univariate


class Autoregressive(Bijection):
    """z_i = f(x_i; h_i(x_<i)) with h a masked network.

    `forward` is one pass through the network; `inverse` goes coordinate by coordinate.

    Arguments:
        features: D; events are of shape (D,).
        univariate: f, the map of one coordinate.
        hidden: Sizes of the network's hidden layers.
        activation: The network's activation.
        residual: Residual hidden layers.
        zero_init: Start with h = 0.
    """

    def __init__(
        self,
        features: int,
        univariate: Univariate,
        hidden: Sequence[int],
        activation: str = "tanh",
        residual: bool = False,
        zero_init: bool = False,
    ) -> None:
        super().__init__((features,))
        self.univariate = univariate
        self.bends_within = univariate.bends_within
        self.net = MaskedMLP(features, hidden, univariate.size, activation, residual, zero_init)
        self._hidden = list(hidden)

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_slope = self.univariate.forward(x, self.net(x))
        return z, log_slope.sum(1)

    def _inverse(self, z: Tensor) -> Tensor:
        return self.net.unroll(z, self.univariate.inverse)

    def describe(self) -> str:
        return f"Autoregressive {type(self.univariate).__name__} {self._hidden}"
