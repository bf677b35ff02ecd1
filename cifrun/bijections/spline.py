"""Monotone rational-quadratic splines with linear tails.

On a bin [x_k, x_{k+1}] of width w and height v with slope s = v/w, knot slopes d_k, d_{k+1} and ξ = (x − x_k)/w:

    z = y_k + v (s ξ² + d_k ξ(1−ξ)) / q,                 q = s + (d_k + d_{k+1} − 2s) ξ(1−ξ)
    ∂z/∂x = s² (d_{k+1} ξ² + 2s ξ(1−ξ) + d_k (1−ξ)²) / q²

The knots cover [−B, B]²; outside z = x. The inverse is the root of a quadratic.

Source: Durkan, Bekasov, Murray, Papamakarios, "Neural spline flows", NeurIPS 2019.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .univariate import Univariate

#: Least width and height of a bin, as a part of the average one, and least slope at a knot.
LEAST_BIN = 1e-2
LEAST_SLOPE = 1e-3


class RationalQuadraticSpline(Univariate):
    """A rational-quadratic spline of K bins on [−B, B], the identity outside and at h = 0.

    Arguments:
        bins: K.
        bound: B.
    """

    def __init__(self, bins: int = 8, bound: float = 3.0) -> None:
        self.bins = bins
        self.bound = self.bends_within = bound
        self.size = 3 * bins - 1

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        inside = x.abs() < self.bound
        x0, w, y0, v, d0, d1 = self._bin(torch.where(inside, x, 0.0), h, on_x=True)
        s = v / w
        xi = torch.where(inside, (x - x0) / w, 0.5)
        xi_1 = 1 - xi
        product = xi * xi_1
        q = s + (d0 + d1 - 2 * s) * product
        z = y0 + v * (s * xi * xi + d0 * product) / q
        log_slope = (s * s * (d1 * xi * xi + 2 * s * product + d0 * xi_1 * xi_1)).log() - 2 * q.log()
        return torch.where(inside, z, x), torch.where(inside, log_slope, 0.0)

    def inverse(self, z: Tensor, h: Tensor) -> Tensor:
        inside = z.abs() < self.bound
        x0, w, y0, v, d0, d1 = self._bin(torch.where(inside, z, 0.0), h, on_x=False)
        s = v / w
        y = torch.where(inside, z - y0, 0.0)
        curve = y * (d0 + d1 - 2 * s)
        a, b, c = v * (s - d0) + curve, v * d0 - curve, -s * y
        root = (b * b - 4 * a * c).clamp_min(0).sqrt()  # rounding may leave a little less than 0
        xi = (2 * c / (-b - root)).clamp(0, 1)
        return torch.where(inside, x0 + xi * w, z)

    def _bin(self, value: Tensor, h: Tensor, on_x: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """x_k, w, y_k, v, d_k, d_{k+1} of the bin that holds `value`, an x or a z."""
        sizes = h[..., : 2 * self.bins].unflatten(-1, (2, self.bins)).softmax(-1)
        sizes = (2 * self.bound) * (LEAST_BIN / self.bins + (1 - LEAST_BIN) * sizes)  # (…, 2, K): widths, heights
        ends = sizes.cumsum(-1)[..., :-1] - self.bound  # inner knots
        k = (value[..., None] >= ends[..., 0 if on_x else 1, :]).sum(-1, keepdim=True)
        pair = k[..., None, :].expand(*k.shape[:-1], 2, 1)
        (w, v) = sizes.gather(-1, pair)[..., 0].unbind(-1)
        starts = F.pad(ends, (1, 0), value=-self.bound).gather(-1, pair)[..., 0]
        (x0, y0) = starts.unbind(-1)
        slopes = LEAST_SLOPE + F.softplus(h[..., 2 * self.bins :] + math.log(math.expm1(1 - LEAST_SLOPE)))
        slopes = F.pad(slopes, (1, 1), value=1.0)
        d0, d1 = slopes.gather(-1, torch.cat([k, k + 1], -1)).unbind(-1)
        return x0, w, y0, v, d0, d1
