"""Lipschitz networks against autograd and against singular value decompositions."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.nets.lipschitz import networks as lipschitz
from cifrun.nets.lipschitz.networks import LipschitzConvNet, LipschitzLinear, LipschitzMLP, LipSwish, power_iteration


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


def test_folded_weights_leave_the_network_as_it_is():
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


def test_power_iteration_finds_the_spectral_norm():
    weights = torch.randn(6, 20, 12, dtype=torch.float64)
    u, v = power_iteration(*LipschitzLinear.operator(weights), torch.randn(6, 12, dtype=torch.float64), 2000)
    norms = torch.einsum("ki,kij,kj->k", u, weights, v)
    torch.testing.assert_close(norms, torch.linalg.matrix_norm(weights, 2), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kappa", [0.5, 0.9, 0.98])
def test_bound_holds_in_evaluation_however_large_the_weights(kappa):
    net = LipschitzMLP(2, [32, 32, 32], kappa).double().eval()
    with torch.no_grad():
        for linear in net.linears:
            linear.weight.mul_(50)
    LipschitzLinear.follow(net.linears)
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
    monkeypatch.setattr(lipschitz, "power_iteration", lambda *a, **k: calls.append(len(a[2])) or real(*a, **k))
    net = LipschitzMLP(2, [8, 8, 8], 0.9).eval()
    calls.clear()
    LipschitzLinear.follow(net.linears)
    assert sorted(calls) == [1, 1, 2]  # one batched product for the layers of each shape
    LipschitzLinear.follow(net.linears)
    assert len(calls) == 3  # nothing has changed: nothing to do
    with torch.no_grad():
        net.linears[1].weight.mul_(1.1)
    LipschitzLinear.follow(net.linears)
    assert calls[3:] == [1]


def test_evaluation_leaves_the_training_state_alone():
    net = LipschitzMLP(2, [8, 8], 0.9).train()
    with torch.no_grad():
        for linear in net.linears:
            linear.weight.normal_()
    before = copy.deepcopy(net.state_dict())
    net.eval()
    LipschitzLinear.follow(net.linears)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_copies_do_not_share_what_was_derived():
    net = LipschitzMLP(2, [8, 8], 0.9).eval()
    LipschitzLinear.follow(net.linears)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        with torch.no_grad():
            for linear in other.linears:
                linear.weight.normal_().mul_(3)
        LipschitzLinear.follow(other.linears)
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
        LipschitzLinear.follow(net.linears)
        for linear in net.linears:
            assert torch.linalg.matrix_norm(linear.normalised_weight(), 2) <= linear.bound * 1.001


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("training", [False, True])
def test_the_gradient_through_norms_and_slopes(kind, training):
    """Of folded weights by all parameters, in double precision, beside autograd through the formulas as they stand."""
    torch.manual_seed(0)
    net = LipschitzMLP(3, [5, 4], 0.9) if kind == "linear" else LipschitzConvNet((2, 3, 3), [4, 4], 0.9)
    net = net.double().train(training)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
        net.linears[1].weight.mul_(1e-2)  # one whose norm is below its bound, and is left alone
    slopes = [linear.slopes([linear])[0] for linear in net.linears]
    folded = net.folded()
    probes = [torch.randn_like(t) for t in folded]
    found = torch.autograd.grad(sum((p * t).sum() for p, t in zip(probes, folded, strict=True)), list(net.parameters()))

    n = len(net.linears)
    weights = [
        linear.weight * linear.bound / (linear.weight * slope).sum().clamp_min(linear.bound)
        for linear, slope in zip(net.linears, slopes, strict=True)
    ]
    betas = [activation.beta for activation in net.activations]
    expected = [w * (betas[k] if k < n - 1 else 1) / (1.1 * betas[k - 1] if k else 1) for k, w in enumerate(weights)]
    expected += [linear.bias * (betas[k] if k < n - 1 else 1) for k, linear in enumerate(net.linears)]
    for a, b in zip(folded, expected, strict=True):
        torch.testing.assert_close(a, b)
    loss = sum((p * t).sum() for p, t in zip(probes, expected, strict=True))
    for a, b in zip(found, torch.autograd.grad(loss, list(net.parameters())), strict=True):
        torch.testing.assert_close(a, b)


def networks(kind, count=3):
    torch.manual_seed(0)
    make = {"linear": lambda: LipschitzMLP(3, [5, 4], 0.9), "conv": lambda: LipschitzConvNet((2, 3, 3), [4, 4], 0.9)}
    nets = [make[kind]().double() for _ in range(count)]
    nets.append(
        LipschitzMLP(3, [6], 0.9).double() if kind == "linear" else LipschitzConvNet((2, 3, 3), [4], 0.9).double()
    )
    with torch.no_grad():
        for net in nets:
            for parameter in net.parameters():
                parameter.normal_()
            for layer in net.linears:
                layer.reset_vectors()
    return nets


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_together_is_the_same_as_one_by_one(kind):
    """Networks of two makes, prepared at once: their weights, and the gradient by all parameters."""
    nets = networks(kind)
    results = []
    for prepare in (True, False):
        if prepare:
            type(nets[0]).prepare_all(nets)
        folded = [net.folded() for net in nets]
        assert (folded[0][0]._base is not None and len(folded[0][0]._base) == 3) == prepare  # three of one make
        generator = torch.Generator().manual_seed(1)
        loss = sum((torch.randn(t.shape, generator=generator, dtype=t.dtype) * t).sum() for f in folded for t in f)
        gradient = torch.autograd.grad(loss, [p for net in nets for p in net.parameters()])
        results.append([*(t.detach() for f in folded for t in f), *gradient])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_weights_computed_together_serve_one_pass():
    nets = networks("linear")
    kind = type(nets[0])
    kind.prepare_all(nets)
    first = nets[0].folded()
    second = nets[0].folded()  # of a graph of its own: the first one's may be gone
    sum(t.sum() for t in first).backward()
    sum(t.sum() for t in second).backward()

    kind.prepare_all(nets)
    nets[0].folded()
    with torch.no_grad():
        nets[1].linears[0].weight.mul_(2)
    torch.testing.assert_close(nets[1].folded()[0], nets[1]._fold()[0])  # changed meanwhile

    kind.prepare_all(nets)
    with torch.no_grad():
        assert not nets[0].folded()[0].requires_grad
    assert nets[1].folded()[0].requires_grad  # computed without a graph, and asked for with one

    kind.prepare_all(nets)
    nets[0].folded()
    nets[1].train()
    with torch.no_grad():
        nets[1].linears[0].weight.data.mul_(2)  # no version tells
    torch.testing.assert_close(nets[1].folded()[0], nets[1]._fold()[0])
    for twin in (copy.deepcopy(nets[2]), pickle.loads(pickle.dumps(nets[2]))):
        torch.testing.assert_close(twin.folded()[0], nets[2].folded()[0])
