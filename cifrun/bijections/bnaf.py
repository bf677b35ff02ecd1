"""Block neural autoregressive maps: one network whose own weights make it triangular and increasing.

    z = g y + (1 − g) x,        y = W_n tanh(… tanh(W_1 x + b_1) …) + b_n,        g = σ(γ)

Each coordinate owns a block of `width` hidden units. In every W the block (i, j) is 0 for i < j, free for i > j and
positive for i = j, so that y_i depends on x_≤i and increases in x_i. Its slope is a product of positive matrices,

    ∂y_i/∂x_i = W_n^(ii) · diag tanh' · W_{n−1}^(ii) ⋯ W_1^(ii),

whose logarithm is carried forward beside h, one log-matmul-exp a layer. The learned gate g makes the map onto: y alone
is bounded, and would leave nothing to invert outside a box and a density that does not integrate to one.

Source: De Cao, Titov, Aziz, "Block neural autoregressive flow", UAI 2019; the gate is theirs too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..nets.derived_weights import DerivedWeights
from .base import Bijection
from .root_finding import monotone_root

__all__ = ["BlockAutoregressive", "BlockLinear"]


class BlockLinear(DerivedWeights):
    """h = W y + b with W block-triangular, positive on the diagonal blocks, each row of it of learned length.

    Arguments:
        features: D, the number of blocks.
        in_width, out_width: Units a block has before and after.
        gain: Slope of an output along the diagonal at first, on average, if the slopes of the inputs are 1.
        bias: Largest |b| at first.
    """

    diagonal: Tensor
    below: Tensor

    def __init__(self, features: int, in_width: int, out_width: int, gain: float, bias: float) -> None:
        super().__init__()
        self.features = features
        rows, columns = features * out_width, features * in_width
        row = torch.arange(rows)[:, None] // out_width
        column = torch.arange(columns) // in_width
        bound = (6 / (in_width + out_width)) ** 0.5
        self.raw = nn.Parameter(torch.empty(rows, columns).uniform_(-bound, bound))
        length = gain * in_width**-0.5 * torch.empty(rows).uniform_(0.5, 1.5)
        self.log_length = nn.Parameter(length.log())
        self.bias = nn.Parameter(torch.empty(rows).uniform_(-bias, bias))
        self.register_buffer("diagonal", row == column, persistent=False)
        self.register_buffer("below", row > column, persistent=False)

    def _derive(self) -> Tensor:
        w = torch.where(self.diagonal, self.raw.exp(), self.raw * self.below)
        return w * (self.log_length.exp() / w.norm(dim=1))[:, None]

    def forward(self, y: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        """h (batch, D · out_width) and log ∂h/∂x_i of the units of block i, (D, batch, out_width).

        Arguments:
            y: (batch, D · in_width).
            log_slope: log ∂y/∂x_i, (D, batch, in_width).
        """
        w = self.derived()
        blocks = w.unflatten(0, (self.features, -1)).unflatten(2, (self.features, -1))
        blocks = blocks.diagonal(dim1=0, dim2=2).permute(2, 1, 0)  # (D, in_width, out_width)
        top = log_slope.amax(-1, keepdim=True)
        slope = ((log_slope - top).exp() @ blocks).clamp_min(torch.finfo(w.dtype).tiny)
        return F.linear(y, w, self.bias), slope.log() + top


class BlockAutoregressive(Bijection):
    """z_i increasing in x_i and dependent on x_≤i, by a network of positive blocks.

    `inverse` searches coordinate by coordinate for the root of an increasing function.

    Arguments:
        features: D; events are of shape (D,).
        width: Hidden units a coordinate has in each layer.
        layers: Hidden layers.

    Raises:
        ConvergenceError: the inverse did not reach its tolerance.
    """

    def __init__(self, features: int, width: int, layers: int) -> None:
        super().__init__((features,))
        widths = [1, *[width] * layers, 1]
        self.layers: Sequence[BlockLinear] = nn.ModuleList(  # type: ignore[assignment]
            # Units of the first layer bend at different places among the data; the slope of tanh is made up for.
            BlockLinear(features, a, b, gain=1.5 if n else 1.0, bias=0.0 if n == layers else 1.0 if n else 2.0)
            for n, (a, b) in enumerate(pairwise(widths))
        )
        self.gate = nn.Parameter(torch.tensor(2.0))  # γ
        #: Largest residual that the last inverse left.
        self.inverse_residual = 0.0

    def _slopes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z and log ∂z_i/∂x_i, both (batch, D)."""
        features = self.shape[0]
        h, log_slope = self.layers[0](x, x.new_zeros(features, len(x), 1))
        for layer in self.layers[1:]:
            log_tanh_slope = 2 * (math.log(2) - h - F.softplus(-2 * h))  # log(1 − tanh²) where tanh² rounds to 1 too
            h, log_slope = layer(torch.tanh(h), log_slope + log_tanh_slope.unflatten(1, (features, -1)).transpose(0, 1))
        z = torch.lerp(x, h, self.gate.sigmoid())
        log_slope = torch.logaddexp(log_slope[..., 0].T + F.logsigmoid(self.gate), F.logsigmoid(-self.gate))
        return z, log_slope

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_slope = self._slopes(x)
        return z, log_slope.sum(1)

    def _inverse(self, z: Tensor) -> Tensor:
        x = torch.zeros_like(z)
        self.inverse_residual = 0.0
        for i in range(z.shape[1]):
            root = monotone_root(partial(self._coordinate, x, i), z[:, i], name="a block autoregressive map")
            x = torch.cat([x[:, :i], root.x[:, None], x[:, i + 1 :]], 1)
            self.inverse_residual = max(self.inverse_residual, root.residual)
        return x

    def _coordinate(self, x: Tensor, i: int, value: Tensor) -> tuple[Tensor, Tensor]:
        """z_i and ∂z_i/∂x_i with `value` in the place of x_i."""
        z, log_slope = self._slopes(torch.cat([x[:, :i], value[:, None], x[:, i + 1 :]], 1))
        return z[:, i], log_slope[:, i].exp()

    def describe(self) -> str:
        width = self.layers[0].raw.shape[0] // self.shape[0]
        return f"BlockAutoregressive {len(self.layers) - 1} layers of {width} a coordinate"
