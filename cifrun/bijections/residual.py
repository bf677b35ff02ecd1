"""Residual blocks: z = x + g(x) with Lip g ≤ κ < 1, which makes the map invertible.

    log|det ∂z/∂x| = log det(I + J) = tr Σ_{k≥1} (−1)^{k+1} J^k / k,     J = ∂g/∂x

Exact, for small D, and in evaluation up to a larger one: J comes from carrying D tangents forward beside x. Unbiased,
for any D: see `log_det_series`.

x is found from z as the fixed point of x ← z − g(x), see `contraction`. Its derivatives are those of the implicit
function theorem, ∂x/∂z = (I + J)⁻¹ and ∂x/∂θ = −(I + J)⁻¹ ∂g/∂θ; of a gradient v at x, (I + Jᵀ)⁻¹ v is the fixed point
of w ← v − Jᵀ w.

Reference: Behrmann et al., "Invertible residual networks", ICML 2019 (https://arxiv.org/abs/1811.00995).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..errors import ConvergenceError
from ..nets.lipschitz.networks import LipschitzNet
from .base import Bijection
from .contraction import MAX_ITERATIONS, Anderson, Broyden
from .log_det_series import log_det_unbiased

__all__ = ["ResidualBlock", "small_log_det"]

#: Up to this many dimensions `log_det="auto"` takes the exact Jacobian, which costs 1 + D forward passes: twice as much
#: as an estimate in training, a third of it in evaluation, and no noise (docs/performance.md).
EXACT_UP_TO = 8
#: Up to this many, evaluation takes it whatever training does. An estimate of about 22 terms takes as long where D is
#: 32; at 128 the exact one takes 6 times (a network of vectors) to 8 times as long (one of images).
EXACT_IN_EVALUATION = 128
#: Numbers of one layer in a pass with tangents.
PASS = 2**24
#: Terms of the series that are always taken (in training, in evaluation), before the roulette begins.
EXACT_TERMS = (2, 20)


class ResidualBlock(Bijection):
    """z = x + g(x), Lip g < 1.

    Arguments:
        shape: Shape of one event.
        net: g, (batch, *shape) → (batch, *shape).
        log_det: In training, "exact", "unbiased", or "auto": exact for flat events of at most 8 dimensions. In
            evaluation it is exact up to 128 dimensions, and above if it is in training.

    Raises:
        ConvergenceError: the inverse did not reach its tolerance; the message has the residual.
    """

    def __init__(
        self, shape: Sequence[int], net: LipschitzNet, log_det: Literal["auto", "exact", "unbiased"] = "auto"
    ) -> None:
        super().__init__(shape)
        self.net = net
        if log_det == "auto":
            log_det = "exact" if len(self.shape) == 1 and self.shape[0] <= EXACT_UP_TO else "unbiased"
        self.exact_in_training = log_det == "exact"
        self.exact_log_det = self.exact_in_training or math.prod(self.shape) <= EXACT_IN_EVALUATION
        self.compilable = self.exact_in_training
        #: Largest |x + g(x) − z| / (1 + |z|) that the last inverse left.
        self.inverse_residual = 0.0

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.exact_in_training if self.training else self.exact_log_det:
            rows = max(1, PASS // (math.prod(self.shape) * self.net.width))
            if len(x) > rows:
                z, log_dets = zip(*map(self._exactly, x.split(rows)), strict=True)
                return torch.cat(z), torch.cat(log_dets)
            return self._exactly(x)
        g, log_det = log_det_unbiased(self.net, x, EXACT_TERMS[0 if self.training else 1], each=not self.training)
        if torch.is_grad_enabled() and not self.training:  # whoever looks at a Jacobian may differentiate it in turn
            g = self.net(x)
        return x + g, log_det

    def _exactly(self, x: Tensor) -> tuple[Tensor, Tensor]:
        g, jacobian = self.net.with_jacobian(x)
        return x + g, small_log_det(jacobian)

    def _inverse(self, z: Tensor) -> Tensor:
        search = Broyden(self.net, self.net.with_jacobian) if self.exact_in_training else Anderson(self.net)
        with torch.no_grad():
            x, self.inverse_residual = search(z)
        if not torch.is_grad_enabled():
            return x
        with torch.inference_mode(False):
            x = x.detach().clone().requires_grad_()
        g = self.net(x)
        left = z - x.detach() - g  # zero but for rounding, with the gradients of z and of the weights
        if left.requires_grad:
            left.register_hook(lambda v: _solved(g, x, v))
        return x.detach() + (left - left.detach())

    @property
    def lipschitz_ceiling(self) -> float | None:
        """max(1 + κ, 1/(1 − κ)), if the network tells its κ."""
        kappa = getattr(self.net, "lipschitz", None)
        return None if kappa is None else max(1 + kappa, 1 / (1 - kappa))

    def describe(self) -> str:
        bound = getattr(self.net, "lipschitz", None)
        kappa = f", κ {bound:g}" if bound is not None else ""
        kinds = ["exact" if exact else "unbiased" for exact in (self.exact_in_training, self.exact_log_det)]
        log_det = kinds[0] if kinds[0] == kinds[1] else f"{kinds[0]} in training, {kinds[1]} in evaluation"
        return f"ResidualBlock(log-det {log_det}{kappa})"


def _solved(g: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """(I + Jᵀ)⁻¹ v of each row, with J = ∂g/∂x.

    Raises:
        ConvergenceError: The search missed its tolerance.
    """
    tolerance = 8 * torch.finfo(v.dtype).eps
    w = v
    for _ in range(MAX_ITERATIONS):
        (product,) = torch.autograd.grad(g, x, w, retain_graph=True)
        before, w = w, v - product
        if not w.isfinite().all():
            break
        if ((w - before).abs() <= tolerance * (1 + w.abs())).all():
            return w
    raise ConvergenceError(
        f"the gradient of the inverse of a residual block did not converge in {MAX_ITERATIONS} iterations: "
        f"is Lip g < 1?"
    )


def small_log_det(jacobian: Tensor) -> Tensor:
    """log det(I + J) for J (batch, D, D) with Lip < 1, where the determinant is positive; (batch,), in nats."""
    if jacobian.dtype in (torch.bfloat16, torch.float16):
        jacobian = jacobian.float()
    dim = jacobian.shape[-1]
    if dim == 1:
        return torch.log1p(jacobian[:, 0, 0])
    if dim == 2:
        (a, b), (c, d) = (row.unbind(1) for row in jacobian.unbind(1))
        return torch.log1p(a + d + (a * d - b * c))  # det(I + J) = 1 + tr J + det J
    eye = torch.eye(dim, dtype=jacobian.dtype, device=jacobian.device)
    return torch.linalg.slogdet(eye + jacobian)[1]
