"""Muon: momentum whose updates of matrices are made orthogonal; Adam for all other weights.

    M ← μ M + (1 − μ) G,    W ← W − η √max(1, rows / columns) · orth((1 − μ) G + μ M),    orth(U S Vᵀ) ≈ U Vᵀ

So the spectral norm of an update is about η √max(1, rows / columns), whatever the gradient's: a bound of the kind that
a spectrally normalised network has itself. orth is a quintic Newton–Schulz iteration, here for all matrices of a shape
at once: the networks of a flow are many and small, and one at a time they would take a multiple of it in starting
operations.

References: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024
(https://kellerjordan.github.io/posts/muon/); Bernstein and Newhouse, "Old optimizer, new norm", 2024
(https://arxiv.org/abs/2409.20325).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import compress
from operator import not_
from typing import Any

import torch
from torch import Tensor, nn

from ..config.schema import OptimizerConfig
from ..registry import OPTIMIZERS

__all__ = ["Muon", "orthogonalised"]

#: Coefficients of X ← a X + (b A + c A²) X with A = X Xᵀ, whose slope at zero is the largest that stays bounded.
COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5
MOMENTUM = 0.95
#: Length below which a gradient fades out, as with Adam's ε. A layer that gets none any longer, as of dead units, would
#: else be moved on by what momentum remembers, ever shorter, until the length of that is zero in single precision.
NOTHING = 1e-8
#: Learning rate of what is no matrix, as a share of that of matrices.
OTHERS = 0.2


@OPTIMIZERS.register("muon")
def muon(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Muon (Jordan et al., 2024) for matrices and convolution kernels; Adam at a fifth of its rate for the rest."""
    return Muon(parameters, config.lr, config.weight_decay)


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two or more dimensions, taken as (rows, …) matrices; Adam for the others.

    Arguments:
        parameters: Weights of a model.
        lr: η of the matrices; that of the others is a fifth of it.
        weight_decay: λ: all weights are multiplied by 1 − η λ at each step.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> None:
        every = list(parameters)
        # Decoupled decay makes it AdamW.
        self._adam = torch.optim.Adam(
            [torch.empty(0)], lr=lr, weight_decay=weight_decay, decoupled_weight_decay=True, fused=True
        )
        large = [p.dim() > 1 and p.numel() > 0 for p in every]
        matrices = {"params": list(compress(every, large)), "share": 1.0, "orthogonal": True}
        rest = list(compress(every, map(not_, large)))
        others = {"params": rest, "share": OTHERS, "lr": OTHERS * lr, "orthogonal": False}
        super().__init__([group for group in (matrices, others) if group["params"]], self._adam.defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of all weights that have a gradient; none where `found_inf`, a tensor () beside, is 1."""
        adam: Any = self._adam
        adam.state, adam.found_inf = self.state, getattr(self, "found_inf", None)
        adam.param_groups = [group for group in self.param_groups if not group["orthogonal"]]
        adam.step()
        for group in self.param_groups:
            if group["orthogonal"]:
                self._step_matrices(group, [p for p in group["params"] if p.grad is not None])

    def _step_matrices(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        bad: Tensor | None = getattr(self, "found_inf", None)
        rate, decay = group["lr"], group["weight_decay"]
        if bad is not None:
            rate = rate * (1 - bad)
        shapes: dict[tuple[int, int], list[Tensor]] = {}
        for p in parameters:
            shapes.setdefault((len(p), p[0].numel()), []).append(p)
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        for (rows, columns), alike in shapes.items():
            gradients = torch.stack([p.grad.reshape(rows, columns) for p in alike if p.grad is not None])
            momenta = torch.stack([self.state[p]["momentum"].reshape(rows, columns) for p in alike])
            if bad is not None:
                gradients = torch.where(bad > 0, momenta, gradients)
            momenta.lerp_(gradients, 1 - MOMENTUM)
            steps = orthogonalised(gradients.lerp(momenta, MOMENTUM)) * (math.sqrt(max(1.0, rows / columns)) * rate)
            for p, momentum, step in zip(alike, momenta, steps, strict=True):
                self.state[p]["momentum"].copy_(momentum.view_as(p))
                if decay:
                    p.mul_(1 - rate * decay)
                p.sub_(step.view_as(p))


def orthogonalised(matrices: Tensor) -> Tensor:
    """About U Vᵀ of each U S Vᵀ: (n, rows, columns) → the same, with singular values of at most 1.21.

    Those above 0.3 % of the square root of their sum of squares become 0.68 or more; smaller ones 300 to 500 times as
    large. Where that root is below `NOTHING`, all become smaller in proportion.
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=NOTHING)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT
