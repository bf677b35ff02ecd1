"""Lipschitz networks against autograd and against singular value decompositions."""

from __future__ import annotations

import pytest
import torch

from cifrun.bijections.residual import ResidualBlock
from cifrun.nets.lipschitz.layers import LipschitzLinear
from cifrun.nets.lipschitz.networks import LipschitzConvNet, LipschitzMLP
from cifrun.nets.lipschitz.power_iteration import Iterations


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def jacobian(function, x):
    return torch.stack([torch.autograd.functional.jacobian(lambda v: function(v[None])[0], row) for row in x])


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


def small_conv_net():
    net = LipschitzConvNet((2, 4, 4), [5, 5], 0.9, Iterations(eval=1000)).double()
    with torch.no_grad():
        for linear in net.linears:
            linear.weight.normal_()
            linear.bias.normal_()
    return net.eval()


def test_a_convolutional_network_has_autograds_jacobian_and_is_as_lipschitz_as_it_says():
    net, x = small_conv_net(), torch.randn(20, 2, 4, 4, dtype=torch.float64)
    g, j = net.with_jacobian(x)
    torch.testing.assert_close(g, net(x))
    torch.testing.assert_close(j, jacobian(net, x).reshape(20, 32, 32))
    assert 0.1 < torch.linalg.matrix_norm(j, 2).max() <= 0.9 + 1e-6


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


@pytest.mark.parametrize("kappa", [0.5, 0.9, 0.98])
@pytest.mark.parametrize(
    ("spectrum", "most"),
    [(torch.linspace(1, 0.9, 64), 0.0045), (torch.cat([torch.ones(1), torch.full((63,), 0.99)]), 0.0105)],
    ids=["spread", "close"],
)
def test_bound_holds_in_evaluation_but_for_what_the_power_iteration_lacks(kappa, spectrum, most):
    """Of 40 linear blocks x − c W x with W symmetric: 1 − c|W| is what their inverse has to stretch back."""
    spectrum = spectrum.double()
    blocks = [ResidualBlock((64,), LipschitzMLP(64, [], kappa)).double().eval() for _ in range(40)]
    layers = [block.net.linears[0] for block in blocks]
    with torch.no_grad():
        for layer in layers:
            q = torch.linalg.qr(torch.randn(64, 64, dtype=torch.float64))[0]
            layer.weight.copy_(-50 * (q * spectrum) @ q.T)
    LipschitzLinear.prepare_all(layers)
    jacobians = torch.stack([block.net.with_jacobian(torch.zeros(1, 64).double())[1][0] for block in blocks])
    off = torch.linalg.matrix_norm(jacobians, 2) / kappa - 1
    assert 0.002 < off.max() <= most
    inverse = 1 / torch.linalg.svdvals(torch.eye(64).double() + jacobians).min(1).values
    beyond = inverse / blocks[0].lipschitz_ceiling - 1
    first_order = kappa / (1 - kappa) * off  # 9 times at 0.9, 49 times at 0.98
    assert (beyond >= first_order - 1e-9).all()
    small = first_order < 0.1
    torch.testing.assert_close(beyond[small], first_order[small], rtol=0.12, atol=1e-9)


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
