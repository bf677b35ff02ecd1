"""Planar maps: x moves along one direction, by how far it lies along another.

    z = x + û tanh(wᵀx + b),        log|det ∂z/∂x| = log(1 + wᵀû sech²(wᵀx + b))

    û = u + (m(wᵀu) − wᵀu) w / |w|²,        m(a) = a for a ≥ 0,  (1 − δ) (exp(a / (1 − δ)) − 1) for a < 0

keeps wᵀû = m(wᵀu) > −1 + δ, so the map is invertible: α = wᵀx is the root of the increasing
α + wᵀû tanh(α + b) = wᵀz. The source has m(a) = −1 + softplus(a), for which u = 0 is not the identity and û grows
without bound as w → 0; here m(a) = a + O(a²) and |û| ≤ |u|.

Source: Rezende, Mohamed, "Variational inference with normalizing flows", ICML 2015, section 4.1 and appendix A.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import Bijection
from .root_finding import Root, monotone_root

__all__ = ["Planar", "planar_forward", "planar_inverse"]

#: δ: the slope along w is nowhere less.
LEAST_SLOPE = 1e-3
#: m, as PyTorch's `elu` takes it: factors of exp(…) − 1, of all, and of the argument below zero.
_BEND = (1 - LEAST_SLOPE, 1.0, 1 / (1 - LEAST_SLOPE))


def planar_forward(x: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """x ↦ z and the log-determinant (batch,).

    Arguments:
        x: (batch, D).
        u, w: (D,), or (batch, D) for a map of each row's own.
        b: () or (batch,).
    """
    u_hat, wu = _invertible(u, w)
    tanh = torch.tanh((x * w).sum(-1) + b)
    return x + u_hat * tanh[:, None], (1 + wu * (1 - tanh * tanh)).log()


def planar_inverse(z: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, float]:
    """z ↦ x and the residual of the root search.

    Raises:
        ConvergenceError: The search missed its tolerance.
    """
    u_hat, wu = _invertible(u, w)

    def along(alpha: Tensor) -> tuple[Tensor, Tensor]:
        tanh = torch.tanh(alpha + b)
        return alpha + wu * tanh, 1 + wu * (1 - tanh * tanh)

    target = (z * w).sum(-1)
    reach = wu.abs()  # |tanh| ≤ 1
    root: Root = monotone_root(along, target, target - reach - 1e-3, target + reach + 1e-3, name="a planar map")
    return z - u_hat * torch.tanh(root.x + b)[:, None], root.residual


def _invertible(u: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """û and wᵀû."""
    wu = (w * u).sum(-1)
    norm = (w * w).sum(-1) + torch.finfo(w.dtype).tiny ** 0.5
    m = torch.ops.aten.elu(wu, *_BEND)
    return u + ((m - wu) / norm)[..., None] * w, m


class Planar(Bijection):
    """z = x + û tanh(wᵀx + b) with learned u, w and b.

    Arguments:
        features: D; events are of shape (D,).
    """

    def __init__(self, features: int) -> None:
        super().__init__((features,))
        bound = (6 / (features + 1)) ** 0.5
        self.u = nn.Parameter(torch.empty(features).uniform_(-bound, bound))
        self.w = nn.Parameter(torch.empty(features).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.zeros(()))
        #: Largest residual that the last inverse left.
        self.inverse_residual = 0.0

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return planar_forward(x, self.u, self.w, self.b)

    def _inverse(self, z: Tensor) -> Tensor:
        x, self.inverse_residual = planar_inverse(z, self.u, self.w, self.b)
        return x
