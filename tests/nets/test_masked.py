"""Masked networks: what each output may see, and weights folded at inference."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.nets.masked import MaskedLinear, MaskedMLP

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


def folded_linear() -> tuple[MaskedLinear, torch.Tensor]:
    torch.manual_seed(0)
    return MaskedLinear(torch.ones(4, 3).tril()), torch.randn(5, 3)


def test_fold_is_kept_until_the_weight_changes() -> None:
    layer, _ = folded_linear()
    with torch.no_grad():
        first = layer.derived()
        assert layer.derived() is first
        layer.weight.mul_(2)
        torch.testing.assert_close(layer.derived(), 2 * first)
        layer.weight = torch.nn.Parameter(torch.ones(4, 3))
        assert torch.equal(layer.derived(), torch.ones(4, 3).tril())
        layer.weight.data.fill_(3)  # no version counts this; changing the mode does
        layer.eval()
        assert layer.derived().max() == 3


def test_fold_of_inference_mode_may_be_used_anywhere() -> None:
    layer, x = folded_linear()
    with torch.inference_mode():
        layer(x)
        weight = layer.derived()
    assert not weight.is_inference()
    with torch.no_grad():
        assert layer.derived() is weight
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.triu(1).abs().max() == 0


def test_fold_is_not_saved_copied_or_pickled() -> None:
    layer, x = folded_linear()
    with torch.no_grad():
        layer(x)
    assert layer._kept is not None
    assert set(layer.state_dict()) == {"weight", "bias"}
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin._kept is None
        assert torch.equal(twin(x), layer(x))
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    assert buffer.tell() < 4 * 16 + 3000


def test_fold_follows_a_change_of_dtype() -> None:
    layer, x = folded_linear()
    with torch.no_grad():
        layer(x)
        assert layer.double()(x.double()).dtype == torch.float64
        assert layer.float()(x).dtype == torch.float32
