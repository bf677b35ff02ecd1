"""Networks with a Lipschitz bound below one: the g of a residual block x + g(x).

    g = W̄_n φ(W̄_{n-1} φ(… φ(W̄_1 x + b_1) …)) + b_n,    W̄ = W · min(1, c / σ(W)),    c = κ^{1/n}

so that Lip g ≤ κ, because LipSwish φ has Lip φ ≤ 1. The spectral norm σ(W) = uᵀ W v comes from power iteration. In
training the vectors u, v are kept from step to step, and a few iterations a step follow the weights; as σ is approached
from below, a layer may meanwhile exceed its bound by what σ is still short of. In evaluation the iteration runs to
convergence, once for each state of the weights. All layers of one shape are iterated together, in batched products. W
is a matrix, or the operator of a convolution: its norm is that of the map of whole images, zeros around them included,
which is neither the norm of the flattened kernel nor bounded by it.

References: Behrmann et al., "Invertible residual networks", ICML 2019 (https://arxiv.org/abs/1811.00995);
Chen et al., "Residual flows for invertible generative modeling", NeurIPS 2019 (https://arxiv.org/abs/1906.02735).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from .._kernels.jacobian import value_and_tangents
from .._kernels.linear import linear
from .._kernels.normalised_weights import Together, fold_together
from ..derived_weights import Folded

__all__ = [
    "LipSwish",
    "LipschitzConv",
    "LipschitzConvNet",
    "LipschitzLayer",
    "LipschitzLinear",
    "LipschitzMLP",
    "LipschitzNet",
    "power_iteration",
]

#: Part of itself by which σ may still change over ten iterations where it counts as found.
CONVERGED = 1e-6
#: sup |d/dh (h · sigmoid(h))| = 1.0998…, rounded up: dividing by it makes swish 1-Lipschitz, whatever its β.
SWISH_LIPSCHITZ = 1.1


class LipSwish(nn.Module):
    """φ(h) = h · sigmoid(βh) / 1.1 with β = softplus(raw) > 0 learned: smooth, and 1-Lipschitz (Chen et al., 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.raw_beta = nn.Parameter(torch.tensor(4.0))

    @property
    def beta(self) -> Tensor:
        return F.softplus(self.raw_beta)

    def forward(self, h: Tensor) -> Tensor:
        return h * torch.sigmoid(self.beta * h) / SWISH_LIPSCHITZ


class LipschitzLayer(nn.Module):
    """x ↦ W̄ x + b with spectral norm σ(W̄) ≤ c, where W is a linear operator made of `weight`.

    Arguments:
        weight, bias: Shapes of W's parameters and of b.
        left, right: Shapes of u and of v, events of the output and of the input.
        bound: c, the largest spectral norm allowed.
        train_iterations: Most power iterations a training step.
        eval_iterations: Most power iterations in evaluation (they stop when σ has converged).
        tolerance: Stop the iteration of a training step when σ changes by less than this part of itself; None takes
            all `train_iterations`.
    """

    left: Tensor
    right: Tensor

    def __init__(
        self,
        weight: Sequence[int],
        left: Sequence[int],
        right: Sequence[int],
        bound: float,
        train_iterations: int,
        eval_iterations: int,
        tolerance: float | None,
    ) -> None:
        super().__init__()
        self.bound = bound
        self.train_iterations = train_iterations
        self.eval_iterations = eval_iterations
        self.tolerance = tolerance
        self.weight = nn.Parameter(torch.empty(*weight))
        self.bias = nn.Parameter(torch.zeros(weight[0]))
        self.register_buffer("left", _normalise(torch.randn(1, *left))[0])
        self.register_buffer("right", _normalise(torch.randn(1, *right))[0])
        # All singular values at the bound: a signal that is only let shrink should not shrink at the start already.
        nn.init.orthogonal_(self.weight)
        width = math.prod(weight[1:]) ** -0.5
        nn.init.uniform_(self.bias, -width, width)
        self._converged: tuple[object, Tensor, Tensor] | None = None
        self.reset_vectors()

    @staticmethod
    @abstractmethod
    def operator(weights: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """v ↦ W v and u ↦ Wᵀ u for stacked layers: (layers, *right) → (layers, *left), and back."""

    @abstractmethod
    def apply_with(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """W x + b with other parameters in place of this layer's own."""

    @abstractmethod
    def outer(self, lefts: Tensor, rights: Tensor) -> Tensor:
        """∂(uᵀ W v)/∂weight of stacked layers, (layers, *weight): uᵀ W v is its inner product with the weight."""

    @torch.no_grad()
    def reset_vectors(self) -> None:
        """Bring u and v up to the present weights; for use after weights were set by hand."""
        product, adjoint = self.operator(self.weight[None])
        tolerance = None if self.tolerance is None else CONVERGED
        left, right = power_iteration(product, adjoint, self.right[None], self.eval_iterations, tolerance, every=10)
        self.left.copy_(left[0])
        self.right.copy_(right[0])

    def _vectors(self) -> tuple[Tensor, Tensor]:
        """u and v as they are now."""
        if not self.training:
            self.follow([self])  # nothing to do where a model has prepared all its layers together
            if self._converged is not None:
                return self._converged[1:]
        return self.left, self.right

    @torch.no_grad()
    def slopes(self, layers: Sequence[LipschitzLayer]) -> Tensor:
        """∂σ(W)/∂weight at the present u and v of each of some layers of this one's shape, (layers, *weight)."""
        lefts, rights = (torch.stack(vectors) for vectors in zip(*(layer._vectors() for layer in layers), strict=True))
        with torch.autocast(lefts.device.type, enabled=False):
            return self.outer(lefts, rights)

    def scale(self) -> Tensor:
        """min(1, c/σ(W)), a scalar that is differentiable in W."""
        return self.bound / (self.weight * self.slopes([self])[0]).sum().clamp_min(self.bound)

    def normalised_weight(self) -> Tensor:
        """W̄ = W · min(1, c/σ(W)), shaped as `weight`."""
        return self.weight * self.scale()

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_with(x, self.normalised_weight(), self.bias)

    def train(self, mode: bool = True) -> LipschitzLayer:
        """Training mode forgets the converged vectors: some optimisers change weights without raising their version."""
        self._converged = None if mode else self._converged
        return super().train(mode)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]} → {self.weight.shape[0]}, σ ≤ {self.bound:.4g}"

    def _weight_key(self) -> object:
        return id(self.weight), self.weight._version, self.weight.dtype, self.weight.device

    @classmethod
    @torch.no_grad()
    def follow(cls, layers: Sequence[LipschitzLayer]) -> None:
        """Follow the weights with the power iteration of all `layers`, those of one shape in one batched product.

        Training layers take up to `train_iterations` and keep the result as their state. Evaluation layers iterate to
        convergence, and only if their weights have changed; their training state stays as it is.
        """
        groups: dict[Hashable, list[LipschitzLayer]] = defaultdict(list)
        for layer in layers:
            if layer.training or layer._converged is None or layer._converged[0] != layer._weight_key():
                shapes = layer.weight.shape, layer.right.shape
                rule = layer.training, layer.train_iterations, layer.eval_iterations, layer.tolerance
                groups[(shapes, rule, layer.weight.device)].append(layer)
        for group in groups.values():
            first = group[0]
            weights = torch.stack([layer.weight for layer in group])
            vectors = torch.stack([layer.right for layer in group])
            if first.training:
                options: dict[str, Any] = {"iterations": first.train_iterations, "tolerance": first.tolerance}
            else:
                options = {"iterations": first.eval_iterations, "tolerance": CONVERGED, "every": 10}
            # In full precision, whatever the step's is; and kept for calls outside of inference mode too.
            with torch.autocast(weights.device.type, enabled=False), torch.inference_mode(False), torch.no_grad():
                lefts, rights = power_iteration(*cls.operator(weights), vectors, **options)
            if first.training:
                torch._foreach_copy_([layer.left for layer in group], list(lefts.unbind()))
                torch._foreach_copy_([layer.right for layer in group], list(rights.unbind()))
            else:
                for layer, left, right in zip(group, lefts, rights, strict=True):
                    layer._converged = (layer._weight_key(), left, right)


class LipschitzLinear(LipschitzLayer):
    """x ↦ W̄ x + b with spectral norm σ(W̄) ≤ c: (batch, in_features) → (batch, out_features).

    Arguments:
        in_features: Size of the input.
        out_features: Size of the output.
        bound, train_iterations, eval_iterations, tolerance: See `LipschitzLayer`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bound: float,
        train_iterations: int = 5,
        eval_iterations: int = 200,
        tolerance: float | None = None,
    ) -> None:
        shapes = (out_features, in_features), (out_features,), (in_features,)
        super().__init__(*shapes, bound, train_iterations, eval_iterations, tolerance)

    @staticmethod
    def operator(weights: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        # Rows times matrices: ten times as fast on a CPU as matrices times columns.
        transposed = weights.mT.contiguous()
        return lambda v: (v[:, None] @ transposed)[:, 0], lambda u: (u[:, None] @ weights)[:, 0]

    def apply_with(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear(x, weight, bias)

    def outer(self, lefts: Tensor, rights: Tensor) -> Tensor:
        return lefts[:, :, None] * rights[:, None]


class LipschitzConv(LipschitzLayer):
    """x ↦ W̄ * x + b with the operator norm σ(W̄) ≤ c: (batch, in, H, W) → (batch, out, H, W).

    The convolution has zeros around the image and keeps its height and width. A 1×1 kernel is one matrix at each pixel,
    and has that matrix's norm: there u and v have one pixel.

    Arguments:
        in_channels, out_channels: Channels of input and output.
        kernel: Side of the kernel, odd.
        area: (H, W).
        bound, train_iterations, eval_iterations, tolerance: See `LipschitzLayer`.

    Source: Gouk et al., "Regularisation of neural networks by enforcing Lipschitz continuity", Machine Learning 2021
    (https://arxiv.org/abs/1804.04368).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        area: Sequence[int],
        bound: float,
        train_iterations: int = 5,
        eval_iterations: int = 200,
        tolerance: float | None = None,
    ) -> None:
        area = (1, 1) if kernel == 1 else tuple(area)
        shapes = (out_channels, in_channels, kernel, kernel), (out_channels, *area), (in_channels, *area)
        super().__init__(*shapes, bound, train_iterations, eval_iterations, tolerance)

    @staticmethod
    def operator(weights: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        layers, flat, padding = len(weights), weights.flatten(0, 1), weights.shape[-1] // 2

        def product(v: Tensor) -> Tensor:
            return F.conv2d(v.flatten(0, 1)[None], flat, padding=padding, groups=layers)[0].unflatten(0, (layers, -1))

        def adjoint(u: Tensor) -> Tensor:
            image = u.flatten(0, 1)[None]
            return F.conv_transpose2d(image, flat, padding=padding, groups=layers)[0].unflatten(0, (layers, -1))

        return product, adjoint

    def apply_with(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    def outer(self, lefts: Tensor, rights: Tensor) -> Tensor:
        shape, padding = list(self.weight.shape), self.weight.shape[-1] // 2
        pairs = zip(lefts.split(1), rights.split(1), strict=True)
        return torch.stack([conv2d_weight(right, shape, left, padding=padding) for left, right in pairs])


def power_iteration(
    product: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    right: Tensor,
    iterations: int,
    tolerance: float | None = None,
    every: int = 1,
) -> tuple[Tensor, Tensor]:
    """Leading singular vectors of a stack of linear operators: u, v with uᵀ W v → σ(W).

    Arguments:
        product, adjoint: v ↦ W v and u ↦ Wᵀ u, with the layers in the first dimension.
        right: Where to start, (layers, …).
        iterations: How many products with Wᵀ W, at most.
        tolerance: Stop when every σ has changed by less than this part of itself over `every` iterations; None never
            stops early.

    Returns:
        u and v, (layers, …), each of length one.
    """
    v, image = right, product(right)
    before = None
    for k in range(iterations):
        v = _normalise(adjoint(image))
        image = product(v)
        if tolerance is not None and (k + 1) % every == 0:
            norm = torch.linalg.vector_norm(image.flatten(1), dim=1)
            if before is not None and bool(((norm - before).abs() <= tolerance * norm).all()):
                break
            before = norm
    return _normalise(image), v


def _normalise(vectors: Tensor) -> Tensor:
    """Each of the stacked vectors at length one."""
    return F.normalize(vectors.flatten(1), dim=1).view_as(vectors)


class LipschitzNet(Folded):
    """Layers with LipSwish between them, and Lip g ≤ κ.

    Arguments:
        layers: The linear operators; the same bound κ^{1/n} of each of n gives κ.
        lipschitz: κ.
    """

    def __init__(self, layers: Sequence[LipschitzLayer], lipschitz: float) -> None:
        super().__init__()
        self._together: Together | None = None
        self.lipschitz = lipschitz
        self.linears: Sequence[LipschitzLayer] = nn.ModuleList(layers)  # type: ignore[assignment]
        self.activations: Sequence[LipSwish] = nn.ModuleList(LipSwish() for _ in layers[1:])  # type: ignore[assignment]
        with torch.no_grad():
            # The bends of the first layer are spread over standardised data, and g is small: near the identity.
            self.linears[0].bias.uniform_(-2, 2)
            self.linears[-1].weight.mul_(1e-2)
            self.linears[-1].bias.zero_()

    def _sources(self) -> list[nn.Parameter]:
        return list(self.parameters())

    def folded(self) -> list[Tensor]:
        """Weights, and after them biases, with which g is a network of plain SiLU: as φ(h) = silu(βh) / (1.1 β), β goes
        into the layer before, and 1 / (1.1 β) into the layer after. In training they change with the power iteration
        too."""
        if not self.training:
            return super().folded()
        found = None if self._together is None or torch.compiler.is_compiling() else self._together.take(self)
        return self._fold() if found is None else found

    def _fold(self) -> list[Tensor]:
        if not torch.compiler.is_compiling():
            return fold_together([self])[0]
        weights, biases = [layer.normalised_weight() for layer in self.linears], [layer.bias for layer in self.linears]
        if self.activations:
            betas = torch.stack([activation.beta for activation in self.activations])
            weights = [w * ratio for w, ratio in zip(weights, self.weight_factors(betas[None])[0], strict=True)]
            biases = [*(b * beta for b, beta in zip(biases, betas, strict=False)), biases[-1]]
        return [*weights, *biases]

    @staticmethod
    def weight_factors(betas: Tensor) -> Tensor:
        """What each weight takes in of the activations around it, (nets, layers), for β of (nets, activations)."""
        one = betas.new_ones(len(betas), 1)
        return torch.cat([betas, one], 1) / torch.cat([one, SWISH_LIPSCHITZ * betas], 1)

    @classmethod
    def prepare_all(cls, nets: Sequence[LipschitzNet]) -> None:
        """Bring spectral norms up to date, and let the networks of one make compute their weights together."""
        layers = [layer for net in nets for layer in net.linears]
        kinds: dict[Hashable, list[LipschitzNet]] = defaultdict(list)
        type(layers[0]).follow(layers)
        for net in nets:
            if net.training:
                kinds[tuple((layer.weight.shape, layer.right.shape, layer.bound) for layer in net.linears)].append(net)
        for members in kinds.values():
            together = Together(members)
            for net in members:
                net._together = together

    def _forget(self) -> None:
        super()._forget()
        self._together = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_together": None}

    def forward(self, x: Tensor) -> Tensor:
        """g(x)."""
        return self.apply_with(x, *self.folded())

    def apply_with(self, x: Tensor, *folded: Tensor) -> Tensor:
        """g(x) for what `folded` gave."""
        for k, layer in enumerate(self.linears):
            x = layer.apply_with(x if k == 0 else F.silu(x), folded[k], folded[len(self.linears) + k])
        return x


class LipschitzMLP(LipschitzNet):
    """A multi-layer perceptron with LipSwish and Lip g ≤ κ: (batch, D) → (batch, D).

    Arguments:
        features: D.
        hidden: Sizes of the hidden layers.
        lipschitz: κ; each of the n linear layers gets the bound κ^{1/n}.
        train_iterations, eval_iterations, tolerance: Of the power iteration, see `LipschitzLayer`.
    """

    def __init__(
        self,
        features: int,
        hidden: Sequence[int],
        lipschitz: float,
        train_iterations: int = 5,
        eval_iterations: int = 200,
        tolerance: float | None = None,
    ) -> None:
        sizes = [features, *hidden, features]
        rule = lipschitz ** (1 / (len(sizes) - 1)), train_iterations, eval_iterations, tolerance
        super().__init__([LipschitzLinear(a, b, *rule) for a, b in pairwise(sizes)], lipschitz)

    def with_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """g(x) (batch, D) and ∂g_i/∂x_j (batch, D, D); costs 1 + D forward passes, and is differentiable once."""
        folded = self.folded()
        weights, biases = folded[: len(self.linears)], folded[len(self.linears) :]
        if len(weights) == 1:  # no hidden layer: the Jacobian is the weight
            return linear(x, weights[0], biases[0]), weights[0].expand(len(x), -1, -1)
        value, tangents = value_and_tangents(x, weights, biases)
        return value, tangents.permute(1, 2, 0)


class LipschitzConvNet(LipschitzNet):
    """Convolutions 3×3, 1×1 … 1×1, 3×3 with LipSwish between them, and Lip g ≤ κ: (batch, C, H, W) to the same.

    Arguments:
        shape: (C, H, W).
        hidden: Channels between; the first and the last convolution, with 3×3 kernels, lead there and back.
        lipschitz: κ; each of the n convolutions gets the bound κ^{1/n}.
        train_iterations, eval_iterations, tolerance: Of the power iteration, see `LipschitzLayer`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int],
        lipschitz: float,
        train_iterations: int = 5,
        eval_iterations: int = 200,
        tolerance: float | None = None,
    ) -> None:
        channels = [shape[0], *hidden, shape[0]]
        kernels = [3, *[1] * (len(channels) - 3), 3] if hidden else [3]
        rule = lipschitz ** (1 / len(kernels)), train_iterations, eval_iterations, tolerance
        super().__init__(
            [
                LipschitzConv(a, b, kernel, shape[1:], *rule)
                for (a, b), kernel in zip(pairwise(channels), kernels, strict=True)
            ],
            lipschitz,
        )
