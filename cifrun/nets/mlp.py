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
        self.is_tanh = activation == "tanh"

    def forward(self, x: Tensor) -> Tensor:
        return tanh_network(x, *self.layers()) if self.is_tanh else super().forward(x)

    def layers(self) -> tuple[list[Tensor], list[Tensor]]:
        """The weights of its layers, and their biases."""
        linear: list[Any] = list(self)[::2]
        return [layer.weight for layer in linear], [layer.bias for layer in linear]


def zero(layer: nn.Module) -> None:
    """Set its parameters to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
