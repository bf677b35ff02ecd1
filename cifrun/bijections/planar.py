"""Planar maps: x moves along one direction, by how far it lies along another.

    z = x + û tanh(wᵀx + b),        log|det ∂z/∂x| = log(1 + wᵀû sech²(wᵀx + b))

    û = u + (m(wᵀu) − wᵀu) w / |w|²,        m(a) = a for a ≥ 0,  (1 − δ) (exp(a / (1 − δ)) − 1) for a < 0

keeps wᵀû = m(wᵀu) > −1 + δ, so the map is invertible: α = wᵀx is the root of the increasing
α + wᵀû tanh(α + b) = wᵀz. The source has m(a) = −1 + softplus(a), for which u = 0 is not the identity and û grows
without bound as w → 0; here m(a) = a + O(a²) and |û| ≤ |u|.

Source: Rezende, Mohamed, "Variational inference with normalizing flows", ICML 2015, section 4.1 and appendix A.1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..nets._kernels.autograd import by_hand, differentiably
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
    return _PlanarForward.apply(x, u, w, b) if by_hand(x) else _plain(x, u, w, b)


def _plain(x: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The formulas as they stand."""
    u_hat, wu = _invertible(u, w)
    tanh = torch.tanh((x * w).sum(-1) + b)
    return x + u_hat * tanh[:, None], (1 + wu * (1 - tanh * tanh)).log()


class _PlanarForward(torch.autograd.Function):
    """`planar_forward` as one operation, because each of the forty small ones it is made of costs the same.

    With t = tanh(wᵀx + b), s = 1 − t², a = wᵀu, r = (m(a) − a) / |w|² and û = u + r w, the derivatives follow one
    another from (z, log|det|) = (x + û t, log(1 + m s)) back to x, u, w and b; those of parameters that all rows share
    are sums over the rows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        a, norm = _dot(u, w), _dot(w, w) + torch.finfo(w.dtype).tiny ** 0.5
        m = torch.ops.aten.elu(a, *_BEND)
        r = (m - a) / norm
        u_hat = torch.addcmul(u, r[..., None], w)
        t = torch.tanh(_dot(x, w) + b)
        s = 1 - t * t
        det = 1 + m * s
        ctx.save_for_backward(x, u, w, b, a, norm, m, r, u_hat, t, s, det)
        return _moved(x, t, u_hat), det.log()

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
        x, u, w, b, a, norm, m, r, u_hat, t, s, det = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody will differentiate this gradient
            return differentiably(_plain, (x, u, w, b), ctx.needs_input_grad, (grad_z, grad_log_det))
        shared = w.dim() == 1
        g_det = grad_log_det / det
        g_t = torch.addcmul(_dot(grad_z, u_hat), t, g_det * m, value=-2)
        g_alpha = g_t * s  # α = wᵀx + b
        g_u = t @ grad_z if shared else t[:, None] * grad_z
        g_w = g_alpha @ x if shared else g_alpha[:, None] * x
        g_m = torch.dot(g_det, s) if shared else g_det * s
        # û = u + r w,  r = (m − a) / n,  n = |w|² + …,  m = m(a),  a = wᵀu
        g_r = _dot(g_u, w) / norm
        g_a = torch.ops.aten.elu_backward(g_m + g_r, *_BEND, False, a) - g_r
        g_w = torch.addcmul(torch.addcmul(g_w, r[..., None], g_u), g_a[..., None], u)
        g_w = torch.addcmul(g_w, (g_r * r)[..., None], w, value=-2)
        g_u = torch.addcmul(g_u, g_a[..., None], w)
        return _moved(grad_z, g_alpha, w), g_u, g_w, g_alpha.sum() if b.dim() == 0 else g_alpha


def _dot(x: Tensor, w: Tensor) -> Tensor:
    """wᵀx of each row."""
    return (x @ w) if w.dim() == 1 else (x * w).sum(-1)


def _moved(x: Tensor, distance: Tensor, direction: Tensor) -> Tensor:
    """Each row of x moved along a direction, its own or that of all."""
    return torch.addr(x, distance, direction) if direction.dim() == 1 else x.addcmul(distance[:, None], direction)


def planar_inverse(z: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, float]:
    """z ↦ x and the residual of the root search. Raises `ConvergenceError`."""
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
