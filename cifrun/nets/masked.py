"""The masked multi-layer perceptron of MADE: output i is a function of the inputs before i.

    h_i = h_i(x_0, …, x_{i-1}),        i = 0 … D-1

A hidden unit of degree d sees the inputs 0 … d, and feeds units of degree ≥ d and outputs i > d. Degrees are dealt out
evenly and sorted, so a mask is block-triangular and the units of one degree are neighbours.

Source: Germain, Gregor, Murray, Larochelle, "MADE: masked autoencoder for distribution estimation", ICML 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._kernels.tanh import tanh_network
from .derived_weights import DerivedWeights
from .mlp import ACTIVATIONS

__all__ = ["MaskedLinear", "MaskedMLP"]


class MaskedLinear(DerivedWeights):
    """y = (mask ⊙ W) x + b.

    Arguments:
        mask: (out_features, in_features), true where an input may be seen.
        zero_init: Start W and b at zero.
    """

    mask: Tensor | None

    def __init__(self, mask: Tensor, zero_init: bool = False) -> None:
        super().__init__()
        bound = 0.0 if zero_init else max(mask.shape[1], 1) ** -0.5
        self.weight = nn.Parameter(torch.empty(mask.shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(mask.shape[0]).uniform_(-bound, bound))
        full = bool(mask.all())  # nothing to hide, nothing to multiply
        self.register_buffer("mask", None if full else mask.to(self.weight.dtype), persistent=False)

    def _derive(self) -> Tensor:
        return self.weight if self.mask is None else self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_features) → (batch, out_features)."""
        return F.linear(x, self.derived(), self.bias)


class MaskedMLP(nn.Module):
    """D vectors h_i(x_<i) of k numbers each: (batch, D) → (batch, D, k).

    For D = 1 the output is a learned constant.

    Arguments:
        features: D, the number of inputs.
        hidden: Sizes of the hidden layers.
        outputs: k, the numbers a coordinate gets.
        activation: A key of `ACTIVATIONS`.
        residual: Add a hidden layer's input to its output where the two have one size.
        zero_init: Start the last layer at zero, so that the output is 0 at first.

    Source: Germain et al. 2015; residual layers as in Nash and Durkan, "Autoregressive energy machines", 2019.
    """

    def __init__(
        self,
        features: int,
        hidden: Sequence[int],
        outputs: int,
        activation: str = "tanh",
        residual: bool = False,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        self.features = features
        self.outputs = outputs
        self.residual = residual
        self._tanh = activation == "tanh" and not residual
        self.activation = ACTIVATIONS[activation]()
        seen = features - 1  # no output sees the last input
        degrees = [torch.arange(seen), *(_degrees(width, seen) for width in hidden)] if seen else [torch.arange(0)]
        masks = [after[:, None] >= before for before, after in pairwise(degrees)]
        last = torch.arange(features).repeat_interleave(outputs)[:, None] > degrees[-1]
        self.hidden: Sequence[MaskedLinear] = nn.ModuleList(map(MaskedLinear, masks))  # type: ignore[assignment]
        self.last = MaskedLinear(last, zero_init)
        #: ends[layer][i]: how many inputs of that layer depend on nothing but x_<i.
        self._ends = [[int((d < i).sum()) for i in range(features)] for d in degrees]

    def forward(self, x: Tensor) -> Tensor:
        """(batch, D) → (batch, D, k)."""
        h = x[:, :-1]
        if self._tanh and self.features > 1:
            layers = [*self.hidden, self.last]
            y = tanh_network(h, [layer.derived() for layer in layers], [layer.bias for layer in layers])
            return y.unflatten(1, (self.features, self.outputs))
        for layer in self.hidden:
            y = self.activation(layer(h))
            h = h + y if self._skips(layer) else y
        return self.last(h).unflatten(1, (self.features, self.outputs))

    def unroll(self, z: Tensor, solve: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """x with x_i = solve(z_i, h_i(x_<i)), one coordinate after the other, each hidden unit computed once.

        Arguments:
            z: (batch, D).
            solve: Takes (batch,) and (batch, k), gives (batch,).
        """
        known: list[list[Tensor]] = [[z[:, :0]] for _ in self._ends]  # inputs of each layer found so far, by degree
        columns: list[Tensor] = []
        for i in range(self.features):
            if i > 0:
                new = columns[-1][:, None]
                for n, layer in enumerate(self.hidden):
                    known[n].append(new)
                    y = self.activation(_part(layer, self._ends[n + 1][i - 1], self._ends[n + 1][i], known[n]))
                    new = new + y if self._skips(layer) else y
                known[-1].append(new)
            h = _part(self.last, i * self.outputs, (i + 1) * self.outputs, known[-1])
            columns.append(solve(z[:, i], h))
        return torch.stack(columns, 1)

    def _skips(self, layer: MaskedLinear) -> bool:
        out_features, in_features = layer.weight.shape
        return self.residual and layer is not self.hidden[0] and out_features == in_features


def _degrees(width: int, seen: int) -> Tensor:
    """Degrees 0 … seen-1 dealt to `width` units in turn, then sorted; spread out where there are fewer units."""
    if width < seen:
        return torch.linspace(0, seen - 1, width).round().long() if width > 1 else torch.tensor([seen - 1])
    return (torch.arange(width) % seen).sort().values


def _part(layer: MaskedLinear, start: int, end: int, known: list[Tensor]) -> Tensor:
    """Outputs start … end-1 of a masked layer; they see exactly the inputs known by now, so no mask is needed."""
    h = torch.cat(known, 1)
    return F.linear(h, layer.weight[start:end, : h.shape[1]], layer.bias[start:end])
