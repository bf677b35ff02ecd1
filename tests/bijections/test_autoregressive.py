"""Autoregressive maps: no coordinate depends on a later one, and each on its own at the rate that is its share."""

from __future__ import annotations

import pytest
import torch

from cifrun.bijections.autoregressive import Autoregressive
from cifrun.bijections.sos import SumOfSquares
from cifrun.bijections.spline import RationalQuadraticSpline
from cifrun.bijections.univariate import Affine, Univariate
from tests.helpers import randomise


@pytest.mark.parametrize("univariate", [Affine(), RationalQuadraticSpline(4, 3.0), SumOfSquares(2, 2)])
@pytest.mark.parametrize("residual", [False, True])
def test_the_jacobian_is_triangular_and_its_diagonal_the_log_determinant(
    univariate: Univariate, residual: bool
) -> None:
    bijection = Autoregressive(4, univariate, [12, 12], residual=residual).double().eval()
    randomise(bijection)
    x = torch.randn(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: bijection(v[None])[0][0], x)
    assert torch.equal(jacobian, jacobian.tril())
    assert (jacobian.tril(-1) != 0).sum() == 6  # each on all before it
    torch.testing.assert_close(bijection(x[None])[1][0], jacobian.diagonal().log().sum())
