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


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("sides", [(64, 64), (2, 64), (64, 3)])
@pytest.mark.parametrize("others", [0.0, 0.5, 0.98, 0.99, 0.9999])
def test_in_evaluation_the_norm_of_a_matrix_is_exact(
    others: float, sides: tuple[int, int], precision: torch.dtype
) -> None:
    """However near the other singular values are to the largest, and wherever the kept vectors point."""
    layers = [LipschitzLinear(*sides, bound=0.9).to(precision).eval() for _ in range(20)]
    spectrum = torch.full((min(sides),), others, dtype=torch.float64)
    spectrum[0] = 1
    with torch.no_grad():
        for layer in layers:
            u, _, v = torch.linalg.svd(torch.randn_like(layer.weight).double(), full_matrices=False)
            layer.weight.copy_(3 * (u * spectrum) @ v)
    LipschitzLinear.prepare_all(layers)
    norms = torch.stack([torch.linalg.matrix_norm(layer.normalised_weight().double(), 2) for layer in layers])
    torch.testing.assert_close(norms / 0.9, torch.ones_like(norms), rtol=1e-6, atol=0)


def test_the_ceiling_of_a_block_holds() -> None:
    """Of linear blocks x − c W x with W symmetric: 1 − c|W| is what their inverse has to stretch back."""
    for kappa in (0.5, 0.9, 0.98):
        block = ResidualBlock((64,), LipschitzMLP(64, [], kappa)).double().eval()
        q = torch.linalg.qr(torch.randn(64, 64, dtype=torch.float64))[0]
        with torch.no_grad():
            block.net.linears[0].weight.copy_(-50 * (q * torch.linspace(1, 0.99, 64)) @ q.T)
        jacobian = torch.eye(64).double() + block.net.with_jacobian(torch.zeros(1, 64).double())[1][0]
        inverse = 1 / torch.linalg.svdvals(jacobian).min().item()
        assert inverse == pytest.approx(block.lipschitz_ceiling, rel=1e-9)


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
