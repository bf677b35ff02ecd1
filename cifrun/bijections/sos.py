"""Sum-of-squares polynomials: increasing because their slope is a sum of squares.

    z = t + εx + ∫_0^x Σ_k p_k(v)² dv,        p_k(v) = 1/√K + Σ_{j=0}^{L} a_kj v^j

Outside [−B, B] z goes on as a straight line: polynomials of polynomials overflow where no data is.

The integrand is a polynomial of degree 2L, so L + 1 Gauss–Legendre nodes give the integral exactly, as a sum of
positive terms that cancel nothing.

Source: Jaini, Selby, Yu, "Sum-of-squares polynomial flow", ICML 2019.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from .root_finding import monotone_root
from .univariate import Univariate

#: ε: the least slope.
LEAST_SLOPE = 1e-3


class SumOfSquares(Univariate, nn.Module):
    """The integral of a sum of K squared polynomials of degree L, and a shift; z ≈ x at h = (t, a) = 0.

    Arguments:
        polynomials: K.
        degree: L.
        bound: B.
    """

    def __init__(self, polynomials: int = 2, degree: int = 4, bound: float = 5.0) -> None:
        super().__init__()
        self.polynomials = polynomials
        self.degree = degree
        self.bound = self.bends_within = bound
        self.size = 1 + polynomials * (degree + 1)
        nodes, weights = np.polynomial.legendre.leggauss(degree + 1)
        nodes, weights = (nodes + 1) / 2, weights / 2
        powers = np.vander(np.append(nodes, 1.0), degree + 1, increasing=True)
        #: Takes (a_kj x^j)_j to p_k at the nodes, times √weight, and to p_k(x).
        self._exact = torch.as_tensor((powers * np.append(weights**0.5, 1.0)[:, None]).T)
        self._points: Tensor
        self.register_buffer("_points", self._exact, persistent=False)  # goes where the model goes

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SumOfSquares:
        super()._apply(fn, recurse)
        self._points = self._exact.to(self._points)  # exact again after a time in less precision
        return self

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        z, slope = self._value_and_slope(x, h)
        return z, slope.log()

    def inverse(self, z: Tensor, h: Tensor) -> Tensor:
        return monotone_root(lambda x: self._value_and_slope(x, h), z, name="a sum-of-squares polynomial").x

    def _value_and_slope(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        a = h[..., 1:].unflatten(-1, (self.polynomials, self.degree + 1))
        one = torch.zeros(self.degree + 1, dtype=x.dtype, device=x.device)
        one[0] = self.polynomials**-0.5
        v = x.clamp(-self.bound, self.bound)
        powers = torch.cat([torch.ones_like(v)[..., None], v[..., None].expand(*v.shape, self.degree)], -1).cumprod(-1)
        squares = (((a + one) * powers[..., None, :]) @ self._points.to(x)).square().sum(-2)
        slope = squares[..., -1] + LEAST_SLOPE
        return h[..., 0] + v * (squares[..., :-1].sum(-1) + LEAST_SLOPE) + slope * (x - v), slope
