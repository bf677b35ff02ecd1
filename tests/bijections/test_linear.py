"""Linear maps: their determinants."""

from __future__ import annotations

import torch

from cifrun.bijections.linear import LULinear
from cifrun.testing.bijections import BijectionCase


def test_a_lu_matrix_has_the_log_det_of_its_diagonal() -> None:
    linear, x = BijectionCase(lambda: LULinear((4,))).example()
    matrix = torch.autograd.functional.jacobian(lambda x: linear(x[None])[0][0], x[0])
    torch.testing.assert_close(linear(x)[1][0], torch.linalg.slogdet(matrix).logabsdet)
