"""Splines: what they are outside of their square."""

from __future__ import annotations

import torch

from cifrun.bijections.spline import RationalQuadraticSpline


def test_splines_are_the_identity_outside_their_square() -> None:
    f = RationalQuadraticSpline(8, 3.0)
    x = torch.tensor([-1e6, -3.0, 3.0, 4.0, 1e6])
    z, log_slope = f.forward(x, torch.randn(5, f.size))
    assert torch.equal(z, x)
    assert torch.equal(log_slope, torch.zeros(5))
