"""Layers of bounded norm against singular value decompositions, and when their norms are found anew."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cifrun.nets.lipschitz import layers
from cifrun.nets.lipschitz.layers import LipschitzConv, LipschitzLayer, LipschitzLinear, LipSwish
from cifrun.nets.lipschitz.networks import LipschitzMLP
from cifrun.nets.lipschitz.power_iteration import Iterations, leading_vectors


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def layer_of(kind: str) -> LipschitzLayer:
    return LipschitzLinear(3, 4, 0.5) if kind == "linear" else LipschitzConv(3, 2, int(kind), (5, 4), 0.5)


@pytest.mark.parametrize("kind", ["linear", "1", "3"])
def test_an_operator_comes_with_its_adjoint_and_its_slope(kind: str) -> None:
    """⟨W v, u⟩ = ⟨v, Wᵀ u⟩, which is linear in the weight."""
    layer = layer_of(kind).double()
    v, u = torch.randn_like(layer.right), torch.randn_like(layer.left)
    product, adjoint = layer.operator(layer.weight[None])
    inner = (product(v[None])[0] * u).sum()
    torch.testing.assert_close((adjoint(u[None])[0] * v).sum(), inner)
    torch.testing.assert_close(layer.apply_with(v[None], layer.weight, None), product(v[None]))
    torch.testing.assert_close(layer.slope(u, v), torch.autograd.grad(inner, layer.weight)[0])


@given(st.floats(-3, 6))
@settings(max_examples=25, deadline=None)
def test_lipswish_is_one_lipschitz(raw_beta):
    phi = LipSwish().double()
    phi.raw_beta.data.fill_(raw_beta)
    h = torch.linspace(-60, 60, 20_001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(phi(h).sum(), h)
    assert slope.abs().max() <= 1.0


def test_small_weights_are_left_alone():
    linear = LipschitzLinear(4, 4, 0.9)
    with torch.no_grad():
        linear.weight.copy_(0.1 * torch.eye(4))
    linear.reset_vectors()
    assert torch.equal(linear.normalised_weight(), linear.weight)


def test_evaluation_iterates_once_for_each_state_of_the_weights(monkeypatch):
    calls = []
    real = leading_vectors
    monkeypatch.setattr(layers, "leading_vectors", lambda w: calls.append(len(w)) or real(w))
    net = LipschitzMLP(2, [8, 8, 8], 0.9).eval()
    calls.clear()
    LipschitzLinear.prepare_all(net.linears)
    assert sorted(calls) == [1, 1, 2]  # the layers of each shape together
    LipschitzLinear.prepare_all(net.linears)
    assert len(calls) == 3  # nothing has changed: nothing to do
    with torch.no_grad():
        net.linears[1].weight.mul_(1.1)
    LipschitzLinear.prepare_all(net.linears)
    assert calls[3:] == [1]


def test_evaluation_leaves_the_training_state_alone():
    net = LipschitzMLP(2, [8, 8], 0.9).train()
    with torch.no_grad():
        for linear in net.linears:
            linear.weight.normal_()
    before = copy.deepcopy(net.state_dict())
    net.eval()
    LipschitzLinear.prepare_all(net.linears)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_copies_do_not_share_what_was_derived():
    net = LipschitzMLP(2, [8, 8], 0.9).eval()
    LipschitzLinear.prepare_all(net.linears)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        with torch.no_grad():
            for linear in other.linears:
                linear.weight.normal_().mul_(3)
        LipschitzLinear.prepare_all(other.linears)
        for linear in other.linears:
            assert torch.linalg.matrix_norm(linear.normalised_weight(), 2) <= linear.bound * 1.001


@pytest.mark.parametrize("fused", [False, True])
def test_evaluation_follows_any_optimiser(fused):
    """A fused optimiser changes weights and leaves their version counter as it was."""
    net = LipschitzMLP(2, [8, 8], 0.9)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.5, fused=fused)
    for _ in range(3):
        net.train()
        net(torch.randn(4, 2)).sum().backward()
        optimizer.step()
        net.eval()
        LipschitzLinear.prepare_all(net.linears)
        for linear in net.linears:
            assert torch.linalg.matrix_norm(linear.normalised_weight(), 2) <= linear.bound * 1.001


def test_a_backward_pass_may_come_after_the_vectors_have_moved_on():
    net = LipschitzMLP(2, [8, 8], 0.9).train()
    loss = net(torch.randn(4, 2)).sum()
    LipschitzLinear.prepare_all(net.linears)
    loss.backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def matrix(layer: LipschitzConv, area: tuple[int, int]) -> Tensor:
    """The convolution by its present weight, as the matrix of a map of whole images."""
    columns = torch.eye(layer.weight.shape[1] * area[0] * area[1], dtype=layer.weight.dtype)
    images = columns.reshape(-1, layer.weight.shape[1], *area)
    return layer.apply_with(images, layer.weight, torch.zeros_like(layer.bias)).flatten(1).T.detach()


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_norm_is_that_of_the_operator(kernel: int) -> None:
    torch.manual_seed(0)
    area = (6, 5)
    layer = LipschitzConv(3, 4, kernel, area, bound=0.5, iterations=Iterations(eval=3000)).double()
    with torch.no_grad():
        layer.weight.normal_()
    layer.eval()
    norm = torch.linalg.matrix_norm(matrix(layer, area), 2)
    torch.testing.assert_close(layer.normalised_weight(), layer.weight * 0.5 / norm, rtol=1e-4, atol=0)
    if kernel > 1:  # the flattened kernel has another norm, and one below that of the operator
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2) < norm
