"""Networks with a Lipschitz bound below one: the g of a residual block x + g(x).

    g = W̄_n φ(W̄_{n-1} φ(… φ(W̄_1 x + b_1) …)) + b_n,    W̄ = W · min(1, c / σ(W)),    c = κ^{1/n}

so that Lip g ≤ κ, because LipSwish φ has Lip φ ≤ 1. The spectral norm σ(W) = uᵀ W v comes from power iteration. In
training the vectors u, v are kept from step to step, and a few iterations a step follow the weights; in evaluation the
iteration runs to convergence, once for each state of the weights. All layers of one shape are iterated together, in
batched matrix products.

References: Behrmann et al., "Invertible residual networks", ICML 2019 (https://arxiv.org/abs/1811.00995);
Chen et al., "Residual flows for invertible generative modeling", NeurIPS 2019 (https://arxiv.org/abs/1906.02735).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .folded import Folded
from .tangents import value_and_tangents

__all__ = ["LipSwish", "LipschitzLinear", "LipschitzMLP", "power_iteration"]

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


class LipschitzLinear(nn.Module):
    """x ↦ W̄ x + b with spectral norm σ(W̄) ≤ c: (batch, in_features) → (batch, out_features).

    Arguments:
        in_features: Size of the input.
        out_features: Size of the output.
        bound: c, the largest spectral norm allowed.
        train_iterations: Power iterations a training step.
        eval_iterations: Most power iterations in evaluation (they stop when σ has converged).
    """

    left: Tensor
    right: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bound: float,
        train_iterations: int = 5,
        eval_iterations: int = 200,
    ) -> None:
        super().__init__()
        self.bound = bound
        self.train_iterations = train_iterations
        self.eval_iterations = eval_iterations
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.register_buffer("left", F.normalize(torch.randn(out_features), dim=0))
        self.register_buffer("right", F.normalize(torch.randn(in_features), dim=0))
        # All singular values at the bound: a signal that is only let shrink should not shrink at the start already.
        nn.init.orthogonal_(self.weight)
        nn.init.uniform_(self.bias, -1 / math.sqrt(in_features), 1 / math.sqrt(in_features))
        self._converged: tuple[object, Tensor, Tensor] | None = None
        self.reset_vectors()

    @torch.no_grad()
    def reset_vectors(self) -> None:
        """Bring u and v up to the present weights; for use after weights were set by hand."""
        left, right = power_iteration(self.weight[None], self.right[None], self.eval_iterations)
        self.left.copy_(left[0])
        self.right.copy_(right[0])

    def scale(self) -> Tensor:
        """min(1, c/σ(W)), a scalar that is differentiable in W."""
        left, right = self.left, self.right
        if not self.training:
            self.prepare_all([self])  # nothing to do where a model has prepared all its layers together
            if self._converged is not None:
                _, left, right = self._converged
        # uᵀ W v as a sum, which mixed precision leaves alone. The outer product is this step's own: the next one moves
        # the vectors in place while this graph may still be alive.
        norm = (self.weight * torch.outer(left, right)).sum()
        return self.bound / norm.clamp_min(self.bound)

    def normalised_weight(self) -> Tensor:
        """W̄ = W · min(1, c/σ(W)), (out_features, in_features)."""
        return self.weight * self.scale()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.normalised_weight(), self.bias)

    def train(self, mode: bool = True) -> LipschitzLinear:
        """Training mode forgets the converged vectors: some optimisers change weights without raising their version."""
        self._converged = None if mode else self._converged
        return super().train(mode)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]} → {self.weight.shape[0]}, σ ≤ {self.bound:.4g}"

    def _weight_key(self) -> object:
        return id(self.weight), self.weight._version, self.weight.dtype, self.weight.device

    @staticmethod
    @torch.no_grad()
    def prepare_all(layers: Sequence[LipschitzLinear]) -> None:
        """Follow the weights with the power iteration of all `layers`, those of one shape in one batched product.

        Training layers take `train_iterations` and keep the result as their state. Evaluation layers iterate to
        convergence, and only if their weights have changed; their training state stays as it is.
        """
        groups: dict[tuple[torch.Size, bool, int, torch.device], list[LipschitzLinear]] = defaultdict(list)
        for layer in layers:
            if layer.training or layer._converged is None or layer._converged[0] != layer._weight_key():
                iterations = layer.train_iterations if layer.training else layer.eval_iterations
                groups[(layer.weight.shape, layer.training, iterations, layer.weight.device)].append(layer)
        for (_, training, iterations, _), group in groups.items():
            weights = torch.stack([layer.weight for layer in group])
            vectors = torch.stack([layer.right for layer in group])
            # In full precision, whatever the step's is; and kept for calls outside of inference mode too.
            with torch.autocast(weights.device.type, enabled=False), torch.inference_mode(False), torch.no_grad():
                lefts, rights = power_iteration(weights, vectors, iterations, stop_early=not training)
            for layer, left, right in zip(group, lefts, rights, strict=True):
                if training:
                    layer.left.copy_(left)
                    layer.right.copy_(right)
                else:
                    layer._converged = (layer._weight_key(), left, right)


def power_iteration(weights: Tensor, right: Tensor, iterations: int, stop_early: bool = False) -> tuple[Tensor, Tensor]:
    """Leading singular vectors of a stack of matrices: u, v with uᵀ W v → σ(W).

    Arguments:
        weights: (layers, out, in).
        right: Where to start, (layers, in).
        iterations: How many products with Wᵀ W.
        stop_early: Stop when every σ has changed by less than 1e-6 of itself over ten iterations.

    Returns:
        u (layers, out) and v (layers, in), each of length one.
    """
    v = right.unsqueeze(-1)
    u = F.normalize(weights @ v, dim=1)
    transposed = weights.mT.contiguous()
    before = None
    for k in range(iterations):
        v = F.normalize(transposed @ u, dim=1)
        u_raw = weights @ v
        u = F.normalize(u_raw, dim=1)
        if stop_early and k % 10 == 9:
            norm = torch.linalg.vector_norm(u_raw, dim=1)
            if before is not None and bool(((norm - before).abs() <= 1e-6 * norm).all()):
                break
            before = norm
    return u.squeeze(-1), v.squeeze(-1)


class LipschitzMLP(Folded):
    """A multi-layer perceptron with LipSwish and Lip g ≤ κ: (batch, D) → (batch, D).

    Arguments:
        features: D.
        hidden: Sizes of the hidden layers.
        lipschitz: κ; each of the n linear layers gets the bound κ^{1/n}.
        train_iterations, eval_iterations: Of the power iteration, see `LipschitzLinear`.
    """

    def __init__(
        self,
        features: int,
        hidden: Sequence[int],
        lipschitz: float,
        train_iterations: int = 5,
        eval_iterations: int = 200,
    ) -> None:
        super().__init__()
        sizes = [features, *hidden, features]
        bound = lipschitz ** (1 / (len(sizes) - 1))
        self.lipschitz = lipschitz
        self.linears: Sequence[LipschitzLinear] = nn.ModuleList(  # type: ignore[assignment]
            LipschitzLinear(a, b, bound, train_iterations, eval_iterations) for a, b in pairwise(sizes)
        )
        self.activations: Sequence[LipSwish] = nn.ModuleList(LipSwish() for _ in hidden)  # type: ignore[assignment]
        with torch.no_grad():
            # The bends of the first layer are spread over standardised data, and g is small: near the identity.
            self.linears[0].bias.uniform_(-2, 2)
            self.linears[-1].weight.mul_(1e-2)
            self.linears[-1].bias.zero_()

    def _sources(self) -> list[nn.Parameter]:
        return list(self.parameters())

    def folded(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights and biases with which g is a network of plain SiLU: as φ(h) = silu(βh) / (1.1 β), β goes into the
        layer before, and 1 / (1.1 β) into the layer after. In training they change with the power iteration too."""
        return self._fold() if self.training else super().folded()

    def _fold(self) -> tuple[list[Tensor], list[Tensor]]:
        betas = [activation.beta for activation in self.activations]
        scales = [linear.scale() for linear in self.linears]
        for k, beta in enumerate(betas):
            scales[k] = scales[k] * beta
            scales[k + 1] = scales[k + 1] / (SWISH_LIPSCHITZ * beta)
        weights = [linear.weight * scale for linear, scale in zip(self.linears, scales, strict=True)]
        biases = [linear.bias * beta for linear, beta in zip(self.linears, betas, strict=False)]
        return weights, [*biases, self.linears[-1].bias]

    def forward(self, x: Tensor) -> Tensor:
        """g(x)."""
        weights, biases = self.folded()
        h = F.linear(x, weights[0], biases[0])
        for weight, bias in zip(weights[1:], biases[1:], strict=True):
            h = F.linear(F.silu(h), weight, bias)
        return h

    def with_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """g(x) (batch, D) and ∂g_i/∂x_j (batch, D, D); costs 1 + D forward passes, and is differentiable once."""
        weights, biases = self.folded()
        if len(weights) == 1:  # no hidden layer: the Jacobian is the weight
            return F.linear(x, weights[0], biases[0]), weights[0].expand(len(x), -1, -1)
        value, tangents = value_and_tangents(x, weights, biases)
        return value, tangents.permute(1, 2, 0)
