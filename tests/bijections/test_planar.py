"""Planar maps: invertible whatever their parameters."""

from __future__ import annotations

import torch

from cifrun.bijections.planar import Planar


def test_planar_maps_stay_invertible_whatever_their_parameters() -> None:
    """u that points against w is corrected, and w = 0 is no division by zero."""
    x = torch.randn(20, 3, dtype=torch.float64)
    for u, w in [([-9.0, 0, 0], [3.0, 0, 0]), ([1.0, 2, 3], [0.0, 0, 0]), ([-1.0, 0, 0], [1e-9, 0, 0])]:
        planar = Planar(3).double()
        planar.u.data, planar.w.data = torch.tensor(u).double(), torch.tensor(w).double()
        z, log_det = planar(x)
        assert log_det.isfinite().all()
        with torch.no_grad():
            torch.testing.assert_close(planar.inverse(z), x, rtol=0, atol=1e-8)
        assert planar.inverse_residual < 1e-10
