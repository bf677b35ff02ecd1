"""The multi-layer perceptron, and the activations a config may name."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from ._kernels.tanh import tanh_network

__all__ = ["ACTIVATIONS", "MLP", "zero"]

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "elu": nn.ELU}


class MLP(nn.Sequential):
    """Linear layers with an activation between them: (batch, in_features) → (batch, out_features).

    Arguments:
        in_features: Size of the input.
        hidden: Sizes of the hidden layers; empty for one linear map.
        out_features: Size of the output.
        activation: A key of `ACTIVATIONS`.
        zero_init: Start the last layer at zero, so that the network is the constant 0 at first.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        activation: str = "tanh",
        zero_init: bool = False,
    ) -> None:
        sizes = [in_features, *hidden, out_features]
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), ACTIVATIONS[activation]()]
        super().__init__(*layers[:-1])
        if zero_init:
            zero(self[-1])
        self._tanh = activation == "tanh"

    def forward(self, x: Tensor) -> Tensor:
        if not self._tanh:
            return super().forward(x)
        layers: list[Any] = list(self)[::2]
        return tanh_network(x, [layer.weight for layer in layers], [layer.bias for layer in layers])


def zero(layer: nn.Module) -> None:
    """Set its parameters to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
