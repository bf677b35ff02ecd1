"""Coupling maps: one half of the coordinates is transformed given the other half.

    z_a = x_a,        z_b = f(x_b; h(x_a)),        log|det ∂z/∂x| = Σ_b log ∂f/∂x_b

Source: Dinh, Sohl-Dickstein, Bengio, "Density estimation using Real NVP", ICLR 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..nets.mlp import MLP
from .base import Bijection
from .univariate import Univariate


class Coupling(Bijection):
    """z_a = x_a and z_b = f(x_b; h(x_a)), where a and b are every other coordinate.

    Arguments:
        features: D ≥ 2; events are of shape (D,).
        univariate: f, the map of one coordinate.
        hidden: Sizes of the hidden layers of the network h.
        activation: The network's activation.
        parity: 0 lets a be the even coordinates, 1 the odd ones; alternate it from step to step.
        shared_nets: One network for all parameters of f; otherwise one for each of them (s and t of an affine f).
        unconditional: Transform x_a too, by an f with free parameters: z_a = f(x_a; φ).
        zero_init: Start with h = 0.

    Raises:
        ValueError: fewer than two coordinates.
    """

    a: Tensor
    b: Tensor
    restore: Tensor

    def __init__(
        self,
        features: int,
        univariate: Univariate,
        hidden: Sequence[int],
        activation: str = "tanh",
        parity: int = 0,
        shared_nets: bool = True,
        unconditional: bool = False,
        zero_init: bool = False,
    ) -> None:
        super().__init__((features,))
        if features < 2:
            raise ValueError(
                f"a coupling needs at least two coordinates, one to condition on, but was given {features}"
            )
        self.univariate = univariate
        self.bends_within = univariate.bends_within
        a, b = torch.arange(parity % 2, features, 2), torch.arange(1 - parity % 2, features, 2)
        self.register_buffer("a", a, persistent=False)
        self.register_buffer("b", b, persistent=False)
        self.register_buffer("restore", torch.cat([a, b]).argsort(), persistent=False)
        k = univariate.size
        sizes = [len(b) * k] if shared_nets else [len(b)] * k
        self.nets = nn.ModuleList(MLP(len(a), hidden, size, activation, zero_init) for size in sizes)
        self.free = nn.Parameter(torch.zeros(len(a), k)) if unconditional else None
        self._hidden = list(hidden)

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x_a, x_b = x.index_select(1, self.a), x.index_select(1, self.b)
        z_b, log_slope = self.univariate.forward(x_b, self._h(x_a))
        log_det = log_slope.sum(1)
        if self.free is not None:
            x_a, log_slope = self.univariate.forward(x_a, self.free.expand(len(x), -1, -1))
            log_det = log_det + log_slope.sum(1)
        return torch.cat([x_a, z_b], 1).index_select(1, self.restore), log_det

    def _inverse(self, z: Tensor) -> Tensor:
        x_a, z_b = z.index_select(1, self.a), z.index_select(1, self.b)
        if self.free is not None:
            x_a = self.univariate.inverse(x_a, self.free.expand(len(z), -1, -1))
        x_b = self.univariate.inverse(z_b, self._h(x_a))
        return torch.cat([x_a, x_b], 1).index_select(1, self.restore)

    def _h(self, x_a: Tensor) -> Tensor:
        """Parameters of f for x_b: (batch, |b|, k)."""
        outputs = [net(x_a).unflatten(1, (len(self.b), -1)) for net in self.nets]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)

    def describe(self) -> str:
        side = "even" if self.a[0] == 0 else "odd"
        return f"Coupling {type(self.univariate).__name__} given {side} {self._hidden}"
