"""The power iteration finds the spectral norm."""

from __future__ import annotations

import pytest
import torch

from cifrun.nets.lipschitz.layers import LipschitzLinear
from cifrun.nets.lipschitz.power_iteration import leading_vectors, power_iteration, unit


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_power_iteration_finds_the_spectral_norm():
    weights = torch.randn(6, 20, 12, dtype=torch.float64)
    u, v = power_iteration(*LipschitzLinear.operator(weights), torch.randn(6, 12, dtype=torch.float64), 2000)
    norms = torch.einsum("ki,kij,kj->k", u, weights, v)
    torch.testing.assert_close(norms, torch.linalg.matrix_norm(weights, 2), rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(5, 20, 12), (5, 12, 20), (3, 1, 7), (3, 7, 1), (2, 4, 4)])
def test_leading_vectors_are_those_of_a_singular_value_decomposition(shape):
    weights = torch.randn(shape, dtype=torch.float64)
    v = leading_vectors(weights)
    stretched = torch.linalg.vector_norm((weights @ v[:, :, None])[..., 0], dim=1)
    torch.testing.assert_close(stretched, torch.linalg.matrix_norm(weights, 2), rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.linalg.vector_norm(v, dim=1), torch.ones(len(v)).double())


def test_leading_vectors_of_nothing_have_length_one():
    assert torch.linalg.vector_norm(leading_vectors(torch.zeros(2, 3, 3)), dim=1).tolist() == [1, 1]


def test_a_plateau_is_not_taken_for_convergence():
    """From a start with next to nothing of the leading vector, σ hardly changes for long."""
    spectrum = torch.full((2000,), 0.95)
    spectrum[0] = 1
    start = torch.randn(1, 2000)
    start[0, 0] = 3e-3

    def operator(v):
        return v * spectrum

    u, v = power_iteration(operator, operator, unit(start), 400, residual=1e-5, every=10)
    assert float((u * operator(v)).sum()) == pytest.approx(1, rel=1e-6)
