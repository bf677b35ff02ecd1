"""Lipschitz networks against autograd and against singular value decompositions."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.nets.lipschitz import layers
from cifrun.nets.lipschitz.layers import LipschitzLinear, LipSwish
from cifrun.nets.lipschitz.networks import LipschitzConvNet, LipschitzMLP
from cifrun.nets.lipschitz.power_iteration import power_iteration


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def jacobian(function, x):
    return torch.stack([torch.autograd.functional.jacobian(lambda v: function(v[None])[0], row) for row in x])


@given(st.floats(-3, 6))
@settings(max_examples=25, deadline=None)
def test_lipswish_is_one_lipschitz(raw_beta):
    phi = LipSwish().double()
    phi.raw_beta.data.fill_(raw_beta)
    h = torch.linspace(-60, 60, 20_001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(phi(h).sum(), h)
    assert slope.abs().max() <= 1.0


def test_derived_weights_leave_the_network_as_it_is():
    net = LipschitzMLP(2, [8, 8], 0.9).double()
    x = torch.randn(5, 2, dtype=torch.float64)
    h = net.linears[0](x)
    for activation, linear in zip(net.activations, net.linears[1:], strict=True):
        h = linear(activation(h))
    torch.testing.assert_close(net(x), h)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_jacobian_is_autograds(dim):
    net = LipschitzMLP(dim, [16, 16], 0.9).double()
    x = torch.randn(7, dim, dtype=torch.float64)
    g, j = net.with_jacobian(x)
    torch.testing.assert_close(g, net(x))
    torch.testing.assert_close(j, jacobian(net, x))


@pytest.mark.parametrize("kappa", [0.5, 0.9, 0.98])
def test_bound_holds_in_evaluation_however_large_the_weights(kappa):
    net = LipschitzMLP(2, [32, 32, 32], kappa).double().eval()
    with torch.no_grad():
        for linear in net.linears:
            linear.weight.mul_(50)
    LipschitzLinear.prepare_all(net.linears)
    for linear in net.linears:
        assert torch.linalg.matrix_norm(linear.normalised_weight(), 2) <= linear.bound * (1 + 1e-4)
    x = 3 * torch.randn(500, 2, dtype=torch.float64)
    assert torch.linalg.matrix_norm(net.with_jacobian(x)[1], 2).max() <= kappa * (1 + 1e-4)


def test_small_weights_are_left_alone():
    linear = LipschitzLinear(4, 4, 0.9)
    with torch.no_grad():
        linear.weight.copy_(0.1 * torch.eye(4))
    linear.reset_vectors()
    assert torch.equal(linear.normalised_weight(), linear.weight)


def test_evaluation_iterates_once_for_each_state_of_the_weights(monkeypatch):
    calls = []
    real = power_iteration
    monkeypatch.setattr(layers, "power_iteration", lambda *a, **k: calls.append(len(a[2])) or real(*a, **k))
    net = LipschitzMLP(2, [8, 8, 8], 0.9).eval()
    calls.clear()
    LipschitzLinear.prepare_all(net.linears)
    assert sorted(calls) == [1, 1, 2]  # one batched product for the layers of each shape
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


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("training", [False, True])
def test_the_gradient_goes_through_the_norms(kind, training):
    """Of the derived weights by all parameters, beside autograd through the formulas, with σ = uᵀ W v as a matrix."""
    torch.manual_seed(0)
    net = LipschitzMLP(3, [5, 4], 0.9) if kind == "linear" else LipschitzConvNet((2, 3, 3), [4, 4], 0.9)
    net = net.double().train(training)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
        net.linears[1].weight.mul_(1e-2)  # one whose norm is below its bound, and is left alone
    derived = net.derived()
    probes = [torch.randn_like(t) for t in derived]
    loss = sum((p * t).sum() for p, t in zip(probes, derived, strict=True))
    found = torch.autograd.grad(loss, list(net.parameters()))

    n = len(net.linears)
    weights = []
    for layer in net.linears:
        left, right = layer._vectors()
        product, _ = layer.operator(layer.weight[None])
        norm = torch.dot(left.flatten(), product(right[None]).flatten())
        weights.append(layer.weight * layer.bound / norm.clamp_min(layer.bound))
    betas = [activation.beta for activation in net.activations]
    expected = [w * (betas[k] if k < n - 1 else 1) / (1.1 * betas[k - 1] if k else 1) for k, w in enumerate(weights)]
    expected += [layer.bias * (betas[k] if k < n - 1 else 1) for k, layer in enumerate(net.linears)]
    for a, b in zip(derived, expected, strict=True):
        torch.testing.assert_close(a, b)
    loss = sum((p * t).sum() for p, t in zip(probes, expected, strict=True))
    for a, b in zip(found, torch.autograd.grad(loss, list(net.parameters())), strict=True):
        torch.testing.assert_close(a, b)


def test_a_backward_pass_may_come_after_the_vectors_have_moved_on():
    net = LipschitzMLP(2, [8, 8], 0.9).train()
    loss = net(torch.randn(4, 2)).sum()
    LipschitzLinear.prepare_all(net.linears)
    loss.backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
