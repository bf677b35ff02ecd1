"""Sums of squares: polynomials of polynomials."""

from __future__ import annotations

import torch

from cifrun.bijections.sos import SumOfSquares


def test_polynomials_of_polynomials_do_not_overflow() -> None:
    f = SumOfSquares(2, 4)
    z = torch.tensor([-1e5, 1e5])
    for _ in range(3):
        z, log_slope = f.forward(z, torch.full((2, f.size), 0.1))
        assert log_slope.isfinite().all()
    assert z.isfinite().all()
