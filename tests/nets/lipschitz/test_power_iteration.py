"""The power iteration finds the spectral norm."""

from __future__ import annotations

import pytest
import torch

from cifrun.nets.lipschitz.layers import LipschitzLinear
from cifrun.nets.lipschitz.power_iteration import power_iteration


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_power_iteration_finds_the_spectral_norm():
    weights = torch.randn(6, 20, 12, dtype=torch.float64)
    u, v = power_iteration(*LipschitzLinear.operator(weights), torch.randn(6, 12, dtype=torch.float64), 2000)
    norms = torch.einsum("ki,kij,kj->k", u, weights, v)
    torch.testing.assert_close(norms, torch.linalg.matrix_norm(weights, 2), rtol=1e-6, atol=0)
