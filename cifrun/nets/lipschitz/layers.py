"""Linear layers with a bounded spectral norm, and the activation between them.

    x ↦ W̄ x + b,    W̄ = W · min(1, c / σ(W)),    σ(W) = uᵀ W v

The vectors u, v come from power iteration. In training they are kept from step to step, and a few iterations a step
follow the weights. σ is approached from below, so a layer may meanwhile exceed its bound by what σ is still short of.
In evaluation the vectors are found anew, once for each state of the weights: those of a matrix exactly, those of other
convolutions by an iteration that goes on to convergence, or to its end. All layers of one shape are iterated together,
in batched products. W is a matrix, or the operator of a convolution: its norm is that of the map of
whole images, zeros around them included, which is neither the norm of the flattened kernel nor bounded by it.

References: Behrmann et al., "Invertible residual networks", ICML 2019 (https://arxiv.org/abs/1811.00995);
Chen et al., "Residual flows for invertible generative modeling", NeurIPS 2019 (https://arxiv.org/abs/1906.02735).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from .._kernels.scaled import scaled
from .power_iteration import DEFAULT, EXACT_SIDE, Iterations, converged, leading_vectors, power_iteration, unit

__all__ = ["SWISH_LIPSCHITZ", "LipSwish", "LipschitzConv", "LipschitzLayer", "LipschitzLinear"]

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
        iterations: Of the power iteration.
    """

    left: Tensor
    right: Tensor

    def __init__(
        self,
        weight: Sequence[int],
        left: Sequence[int],
        right: Sequence[int],
        bound: float,
        iterations: Iterations,
    ) -> None:
        super().__init__()
        self.bound = bound
        self.iterations = iterations
        self.weight = nn.Parameter(torch.empty(*weight))
        self.bias = nn.Parameter(torch.zeros(weight[0]))
        self.register_buffer("left", unit(torch.randn(1, *left))[0])
        self.register_buffer("right", unit(torch.randn(1, *right))[0])
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

    @staticmethod
    def matrices(weights: Tensor) -> Tensor | None:
        """For stacked layers the matrices that have W's singular values and vectors, (layers, m, n), if W is one."""
        return None

    @abstractmethod
    def apply_with(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """W x + b with other parameters in place of this layer's own; without a bias W x."""

    @abstractmethod
    def slope(self, left: Tensor, right: Tensor) -> Tensor:
        """∂(uᵀ W v)/∂weight, shaped as `weight`: uᵀ W v is its inner product with the weight."""

    @torch.no_grad()
    def reset_vectors(self) -> None:
        """Bring u and v up to the present weights; for use after weights were set by hand."""
        product, adjoint = self.operator(self.weight[None])
        residual = None if self.iterations.tolerance is None else converged(self.weight.dtype)
        most = self.iterations.eval
        left, right = power_iteration(product, adjoint, self.right[None], most, residual=residual, every=10)
        self.left.copy_(left[0])
        self.right.copy_(right[0])

    def _vectors(self) -> tuple[Tensor, Tensor]:
        """u and v as they are now."""
        if not self.training:
            self.prepare_all([self])  # nothing to do where a model has prepared all its layers together
            if self._converged is not None:
                return self._converged[1:]
        return self.left, self.right

    @torch.no_grad()
    def norm_slope(self) -> Tensor:
        """S = ∂σ/∂W, shaped as `weight`: σ = ⟨S, W⟩. It is as small as W, where u and v may be as large as images."""
        with torch.autocast(self.weight.device.type, enabled=False):
            return self.slope(*self._vectors())

    def normalised_weight(self) -> Tensor:
        """W̄ = W · min(1, c/σ(W)), shaped as `weight`."""
        return scaled([self.weight], [self.norm_slope()], self.bound, self.weight.new_ones(1))[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_with(x, self.normalised_weight(), self.bias)

    def train(self, mode: bool = True) -> LipschitzLayer:
        """Training mode forgets the converged vectors: some optimisers change weights without raising their version."""
        if mode:
            self.forget()
        return super().train(mode)

    def kept_from(self) -> list[nn.Parameter]:
        """The weight that the converged vectors belong to."""
        return [self.weight]

    def forget(self) -> None:
        """Take the converged vectors for those of other weights."""
        self._converged = None

    def _weight_key(self) -> object:
        return id(self.weight), self.weight._version, self.weight.dtype, self.weight.device

    @classmethod
    @torch.no_grad()
    def prepare_all(cls, layers: Sequence[LipschitzLayer]) -> None:
        """Follow the weights with the power iteration of all `layers`, those of one shape in one batched product.

        Training layers take up to `iterations.train` and keep the result as their state. Evaluation layers get what is
        exact or has converged, and only if their weights have changed; their training state stays as it is.
        """
        groups: dict[Hashable, list[LipschitzLayer]] = defaultdict(list)
        for layer in layers:
            if layer.training or layer._converged is None or layer._converged[0] != layer._weight_key():
                shapes = layer.weight.shape, layer.right.shape
                groups[(shapes, layer.training, layer.iterations, layer.weight.device)].append(layer)
        for group in groups.values():
            training, most = group[0].training, group[0].iterations
            weights = torch.stack([layer.weight for layer in group])
            vectors = torch.stack([layer.right for layer in group])
            if training:
                options: dict[str, Any] = {"iterations": most.train, "tolerance": most.tolerance}
            else:
                options = {"iterations": most.eval, "residual": converged(weights.dtype), "every": 10}
            matrices = None if training else cls.matrices(weights)
            # In full precision, whatever the step's is; and kept for calls outside of inference mode too.
            with torch.autocast(weights.device.type, enabled=False), torch.inference_mode(False), torch.no_grad():
                product, adjoint = cls.operator(weights)
                if matrices is not None and min(matrices.shape[1:]) <= EXACT_SIDE and bool(weights.isfinite().all()):
                    rights = leading_vectors(matrices).view_as(vectors)
                    lefts = unit(product(rights))
                else:
                    lefts, rights = power_iteration(product, adjoint, vectors, **options)
            if training:
                torch._foreach_copy_([layer.left for layer in group], list(lefts.unbind()))
                torch._foreach_copy_([layer.right for layer in group], list(rights.unbind()))
            else:
                for layer, left, right in zip(group, lefts, rights, strict=True):
                    layer._converged = (layer._weight_key(), left, right)


class LipschitzLinear(LipschitzLayer):
    """x ↦ W̄ x + b with spectral norm σ(W̄) ≤ c: (batch, in_features) → (batch, out_features).

    Arguments:
        in_features, out_features: Sizes of input and output.
        bound, iterations: See `LipschitzLayer`.
    """

    def __init__(self, in_features: int, out_features: int, bound: float, iterations: Iterations = DEFAULT) -> None:
        super().__init__((out_features, in_features), (out_features,), (in_features,), bound, iterations)

    @staticmethod
    def operator(weights: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        # Rows times matrices: ten times as fast on a CPU as matrices times columns.
        transposed = weights.mT.contiguous()
        return lambda v: (v[:, None] @ transposed)[:, 0], lambda u: (u[:, None] @ weights)[:, 0]

    @staticmethod
    def matrices(weights: Tensor) -> Tensor | None:
        return weights

    def apply_with(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def slope(self, left: Tensor, right: Tensor) -> Tensor:
        return left[:, None] * right


class LipschitzConv(LipschitzLayer):
    """x ↦ W̄ * x + b with the operator norm σ(W̄) ≤ c: (batch, in, H, W) → (batch, out, H, W).

    The convolution has zeros around the image and keeps its height and width. A 1×1 kernel is one matrix at each pixel,
    and has that matrix's norm: there u and v have one pixel.

    Arguments:
        in_channels, out_channels: Channels of input and output.
        kernel: Side of the kernel, odd.
        area: (H, W).
        bound, iterations: See `LipschitzLayer`.

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
        iterations: Iterations = DEFAULT,
    ) -> None:
        area = (1, 1) if kernel == 1 else tuple(area)
        shapes = (out_channels, in_channels, kernel, kernel), (out_channels, *area), (in_channels, *area)
        super().__init__(*shapes, bound, iterations)

    @staticmethod
    def operator(weights: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        # Matrices times the pixels around each: grouped convolutions of single images take three times as long.
        if weights.shape[2] > weights.shape[1]:  # the transposed operator has fewer channels to gather
            return LipschitzConv.operator(weights.transpose(1, 2).flip(3, 4))[::-1]
        matrices, kernel = weights.flatten(2), weights.shape[-1]

        def product(v: Tensor) -> Tensor:
            return (matrices @ F.unfold(v, kernel, padding=kernel // 2)).unflatten(2, v.shape[2:])

        def adjoint(u: Tensor) -> Tensor:
            return F.fold(matrices.mT @ u.flatten(2), u.shape[2:], kernel, padding=kernel // 2)

        return product, adjoint

    @staticmethod
    def matrices(weights: Tensor) -> Tensor | None:
        return weights[..., 0, 0] if weights.shape[-1] == 1 else None

    def apply_with(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    def slope(self, left: Tensor, right: Tensor) -> Tensor:
        return conv2d_weight(right[None], list(self.weight.shape), left[None], padding=self.weight.shape[-1] // 2)
