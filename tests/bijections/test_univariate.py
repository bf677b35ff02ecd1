"""Maps of one number: they increase, invert, start near the identity and do not overflow."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.bijections.sos import SumOfSquares
from cifrun.bijections.spline import RationalQuadraticSpline
from cifrun.bijections.univariate import Affine, Univariate

UNIVARIATE: dict[str, Univariate] = {
    "affine": Affine(),
    "spline": RationalQuadraticSpline(8, 3.0),
    "sum-of-squares": SumOfSquares(2, 4),
}


scale = st.sampled_from([0.01, 1.0, 30.0])


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(UNIVARIATE)), scale, scale, st.integers(0, 10**6))
def test_univariate_maps_increase_and_invert(name: str, width: float, spread: float, seed: int) -> None:
    f = UNIVARIATE[name]
    generator = torch.Generator().manual_seed(seed)
    x = (width * torch.randn(2, 40, generator=generator, dtype=torch.float64)).sort().values
    h = (spread * torch.randn(2, 1, f.size, generator=generator, dtype=torch.float64)).expand(2, 40, -1)
    z, log_slope = f.forward(x, h)
    assert z.isfinite().all()
    assert log_slope.isfinite().all()
    assert (z.diff() >= 0).all()
    back = f.inverse(z, h)
    tolerance = 1e-9 * (1 + x.abs() + z.abs() * (-log_slope).exp())  # what rounding of z does to x
    assert ((back - x).abs() <= 1e3 * tolerance).all()


@pytest.mark.parametrize("name", UNIVARIATE)
def test_univariate_maps_start_near_the_identity(name: str) -> None:
    f = UNIVARIATE[name]
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    z, log_slope = f.forward(x, x.new_zeros(9, f.size))
    torch.testing.assert_close(z, x, rtol=0.02, atol=0.02)
    torch.testing.assert_close(log_slope, torch.zeros_like(x), rtol=0, atol=0.02)


def test_affine_maps_do_not_overflow() -> None:
    h = torch.tensor([[1e6, 0.0], [-1e6, 0.0]])
    z, log_slope = Affine().forward(torch.ones(2), h)
    assert log_slope.tolist() == [8.0, -8.0]
    assert z.isfinite().all()
