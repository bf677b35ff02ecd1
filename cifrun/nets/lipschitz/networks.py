"""Networks with a Lipschitz bound below one: the g of a residual block x + g(x).

    g = W̄_n φ(W̄_{n-1} φ(… φ(W̄_1 x + b_1) …)) + b_n,    σ(W̄_k) ≤ κ^{1/n}

so that Lip g ≤ κ, because LipSwish φ has Lip φ ≤ 1. In evaluation σ is exact for matrices, 1×1 convolutions among them,
up to 1,024 on their shorter side. Else it is found by power iteration, from below, and nothing certifies it: with 200
iterations from a random start, a layer whose other singular values are all 2 % below the largest may exceed its bound
by these 2 %; one whose are spread from 0.9 to 1, by 0.2 %. In training the iteration is short and follows the weights:
with 5 iterations a step some layer exceeded its bound by 8 % after 3 steps, by 5 % after 10, and by up to 2 % after 30
and 100; of convolutions of images, by 6 % after 3 steps, 8 % after 10 and 6 % after 30, where up to 20 iterations,
until the norm changes by less than 0.1 %, left 6, 2 and 6 %. n layers make n times that of κ.

References: Behrmann et al., "Invertible residual networks", ICML 2019 (https://arxiv.org/abs/1811.00995);
Chen et al., "Residual flows for invertible generative modeling", NeurIPS 2019 (https://arxiv.org/abs/1906.02735).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._kernels import by_hand
from .._kernels.jacobian import value_and_tangents
from .._kernels.patches import gather, scatter
from .._kernels.scaled import scaled
from ..derived_weights import DerivedWeights
from .layers import SWISH_LIPSCHITZ, LipschitzConv, LipschitzLayer, LipschitzLinear, LipSwish
from .power_iteration import DEFAULT, Iterations
from .products import ByRows, Differentiated, Products

__all__ = ["LipschitzConvNet", "LipschitzMLP", "LipschitzNet"]


class LipschitzNet(DerivedWeights):
    """Layers with LipSwish between them, and Lip g ≤ κ.

    Arguments:
        layers: The linear operators; the same bound κ^{1/n} of each of n gives κ.
        lipschitz: κ.
        width: Numbers that the widest layer gives for each datum.
    """

    def __init__(self, layers: Sequence[LipschitzLayer], lipschitz: float, width: int) -> None:
        super().__init__()
        self.lipschitz = lipschitz
        self.width = width
        self.linears: Sequence[LipschitzLayer] = nn.ModuleList(layers)  # type: ignore[assignment]
        self.activations: Sequence[LipSwish] = nn.ModuleList(LipSwish() for _ in layers[1:])  # type: ignore[assignment]
        with torch.no_grad():
            # The bends of the first layer are spread over standardised data, and g is small: near the identity.
            self.linears[0].bias.uniform_(-2, 2)
            self.linears[-1].weight.mul_(1e-2)
            self.linears[-1].bias.zero_()

    def kept_from(self) -> list[nn.Parameter]:
        return list(self.parameters())

    def derived(self) -> list[Tensor]:
        """Weights, and after them biases, with which g is a network of plain SiLU.

        As φ(h) = silu(βh) / (1.1 β), β goes into the layer before, and 1 / (1.1 β) into the layer after. In training
        they change with the power iteration too.
        """
        return self._derive() if self.training else super().derived()

    def _derive(self) -> list[Tensor]:
        biases: list[Tensor] = [layer.bias for layer in self.linears]
        ratios = one = biases[0].new_ones(1)
        if self.activations:
            betas = F.softplus(torch.stack([activation.raw_beta for activation in self.activations]))
            ratios = torch.cat([betas, one]) / torch.cat([one, SWISH_LIPSCHITZ * betas])
            biases = [*(bias * beta for bias, beta in zip(biases, betas.unbind(), strict=False)), biases[-1]]
        slopes = [layer.norm_slope() for layer in self.linears]
        weights = scaled([layer.weight for layer in self.linears], slopes, self.linears[0].bound, ratios)
        return [*weights, *biases]

    def forward(self, x: Tensor) -> Tensor:
        """g(x)."""
        if torch.is_grad_enabled():
            return self.apply_with(x, *self.derived())
        products, theta = self.products(x)
        return products.value(x, *theta)

    def products(self, x: Tensor) -> tuple[Products, list[Tensor]]:
        """g as a function of x and of tensors θ, for products with its Jacobian; and θ."""
        derived = self.derived()
        if len(self.linears) > 1 and by_hand(x):
            return ByRows(self._gather, self._scatter), self._by_rows(derived)
        return Differentiated(self.apply_with), derived

    def apply_with(self, x: Tensor, *derived: Tensor) -> Tensor:
        """g(x) for what `derived` gave."""
        for k, layer in enumerate(self.linears):
            x = layer.apply_with(x if k == 0 else F.silu(x), derived[k], derived[len(self.linears) + k])
        return x

    def with_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """g(x), (batch, *event), and ∂g_i/∂x_j of the flattened event, (batch, D, D), for the price of 1 + D passes.

        The tangents are carried forward beside x: T ← W_1, then T ← W_{k+1} (φ'(a_k) ⊙ T).
        """
        derived = self.derived()
        weights, biases = derived[: len(self.linears)], derived[len(self.linears) :]
        dim = x[0].numel()
        directions = torch.eye(dim, dtype=x.dtype, device=x.device).view(dim, *x.shape[1:])
        tangents = self.linears[0].apply_with(directions, weights[0], None)[:, None]
        a = self.linears[0].apply_with(x, weights[0], biases[0])
        for layer, weight, bias in zip(self.linears[1:], weights[1:], biases[1:], strict=True):
            s = torch.sigmoid(a)
            tangents = (s * (1 + a * (1 - s))) * tangents
            tangents = layer.apply_with(tangents.flatten(0, 1), weight, None).unflatten(0, (dim, len(x)))
            a = layer.apply_with(a * s, weight, bias)
        return a, tangents.expand(dim, len(x), *x.shape[1:]).flatten(2).permute(1, 2, 0)

    def _gather(self, x: Tensor) -> Tensor:
        """The rows of data, see `ByRows`."""
        return x

    def _scatter(self, rows: Tensor) -> Tensor:
        return rows

    def _by_rows(self, derived: list[Tensor]) -> list[Tensor]:
        """What `derived` gave, for a network of rows."""
        return derived


class LipschitzMLP(LipschitzNet):
    """A multi-layer perceptron with LipSwish and Lip g ≤ κ: (batch, D) → (batch, D).

    Arguments:
        features: D.
        hidden: Sizes of the hidden layers.
        lipschitz: κ; each of the n linear layers gets the bound κ^{1/n}.
        iterations: Of the power iteration.
    """

    def __init__(
        self, features: int, hidden: Sequence[int], lipschitz: float, iterations: Iterations = DEFAULT
    ) -> None:
        bound = lipschitz ** (1 / (len(hidden) + 1))
        sizes = pairwise([features, *hidden, features])
        layers = [LipschitzLinear(a, b, bound, iterations) for a, b in sizes]
        super().__init__(layers, lipschitz, max(features, *hidden, 1))

    def with_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As of every such network, with fewer passes over memory; in training it is differentiable once."""
        derived = self.derived()
        weights, biases = derived[: len(self.linears)], derived[len(self.linears) :]
        if len(weights) == 1:  # no hidden layer: the Jacobian is the weight
            return F.linear(x, weights[0], biases[0]), weights[0].expand(len(x), -1, -1)
        value, tangents = value_and_tangents(x, weights, biases, once=self.training)
        return value, tangents.permute(1, 2, 0)


class LipschitzConvNet(LipschitzNet):
    """Convolutions 3×3, 1×1 … 1×1, 3×3 with LipSwish between them, and Lip g ≤ κ: (batch, C, H, W) to the same.

    Arguments:
        shape: (C, H, W).
        hidden: Channels between; the first and the last convolution, with 3×3 kernels, lead there and back.
        lipschitz: κ; each of the n convolutions gets the bound κ^{1/n}.
        iterations: Of the power iteration.
    """

    def __init__(
        self, shape: Sequence[int], hidden: Sequence[int], lipschitz: float, iterations: Iterations = DEFAULT
    ) -> None:
        kernels = [3, *[1] * (len(hidden) - 1), 3] if hidden else [3]
        bound = lipschitz ** (1 / len(kernels))
        sizes = zip(pairwise([shape[0], *hidden, shape[0]]), kernels, strict=True)
        convolutions = [LipschitzConv(a, b, kernel, shape[1:], bound, iterations) for (a, b), kernel in sizes]
        super().__init__(convolutions, lipschitz, max(shape[0], *hidden, 1) * shape[1] * shape[2])
        self._area = tuple(shape[1:])

    def _gather(self, x: Tensor) -> Tensor:
        return gather(x)

    def _scatter(self, rows: Tensor) -> Tensor:
        return scatter(rows, *self._area)

    def _by_rows(self, derived: list[Tensor]) -> list[Tensor]:
        """A 3×3 kernel is a matrix for the 3×3 pixels around, or turned by 180° one that leads to them."""
        first, *between, last = derived[: len(self.linears)]
        last = last.flip(2, 3).permute(2, 3, 0, 1).flatten(0, 2)
        return [
            first.permute(0, 2, 3, 1).flatten(1),
            *(weight[..., 0, 0] for weight in between),
            last,
            *derived[len(self.linears) :],
        ]
