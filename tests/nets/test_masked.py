"""Masked networks: what each output may see."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.nets.masked import MaskedMLP

nets = st.builds(
    MaskedMLP,
    features=st.integers(1, 7),
    hidden=st.lists(st.integers(1, 12), max_size=3),
    outputs=st.integers(1, 3),
    activation=st.sampled_from(["tanh", "relu", "silu"]),
    residual=st.booleans(),
)


def jacobian(net: MaskedMLP, x: torch.Tensor) -> torch.Tensor:
    """|∂h_i/∂x_j| summed over a batch and over the numbers a coordinate gets: (D, D)."""
    result = torch.autograd.functional.jacobian(lambda x: net(x).sum(0), x)  # (D, k, batch, D)
    return result.abs().sum((1, 2))


@settings(max_examples=60, deadline=None)
@given(nets, st.integers(0, 10**6))
def test_output_i_sees_only_inputs_before_i(net: MaskedMLP, seed: int) -> None:
    x = torch.randn(4, net.features, generator=torch.Generator().manual_seed(seed))
    assert net(x).shape == (4, net.features, net.outputs)
    assert torch.equal(jacobian(net, x).triu(), torch.zeros(net.features, net.features))


@pytest.mark.parametrize("features", [2, 3, 6])
@pytest.mark.parametrize("residual", [False, True])
def test_output_i_sees_every_input_before_i(features: int, residual: bool) -> None:
    torch.manual_seed(0)
    sees = jacobian(MaskedMLP(features, [16, 16], 2, residual=residual), torch.randn(8, features)) > 0
    assert torch.equal(sees, torch.ones(features, features).tril(-1).bool())


@settings(max_examples=60, deadline=None)
@given(nets, st.integers(0, 10**6))
def test_unroll_solves_one_coordinate_after_the_other(net: MaskedMLP, seed: int) -> None:
    net = net.double()
    z = torch.randn(5, net.features, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x = net.unroll(z, lambda z, h: z + h.sum(-1))
    torch.testing.assert_close(x - net(x).sum(-1), z)
    with torch.no_grad():
        torch.testing.assert_close(net.unroll(z, lambda z, h: z + h.sum(-1)), x)


def test_zero_init_starts_at_zero() -> None:
    assert torch.equal(MaskedMLP(3, [8], 2, zero_init=True)(torch.randn(5, 3)), torch.zeros(5, 3, 2))
