"""Networks of tanh by way of a sigmoid: a few rounding errors from the true ones, with their derivatives."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from cifrun.nets._kernels.tanh import _TanhNetwork, tanh_network
from cifrun.nets.mlp import MLP


def parameters(sizes: list[int], dtype: torch.dtype) -> list[torch.Tensor]:
    """Weights, and after them biases."""
    generator = torch.Generator().manual_seed(len(sizes))
    shapes = [*((b, a) for a, b in pairwise(sizes)), *((b,) for b in sizes[1:])]
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("sizes", [[3, 4, 2], [1, 5, 4, 6, 1]])
def test_a_networks_gradient_and_its_gradient(sizes: list[int]) -> None:
    x = torch.randn(7, sizes[0], generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    inputs = x, *parameters(sizes, torch.float64)
    assert torch.autograd.gradcheck(_TanhNetwork.apply, inputs)
    assert torch.autograd.gradgradcheck(_TanhNetwork.apply, inputs)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("sizes", [[2, 3], [2, 10, 10, 4], [1, 50, 50, 50, 2], [40, 7, 3]])
def test_a_network_in_single_precision_is_off_by_rounding_errors(sizes: list[int], frozen: bool) -> None:
    """Against the layers one by one in double precision; if input, parameters, or both are learned."""
    torch.manual_seed(1)
    net = MLP(sizes[0], sizes[1:-1], sizes[-1])
    exact = copy.deepcopy(net).double()
    for n in (net, exact):
        n.requires_grad_(not frozen)
    x = 3 * torch.randn(200, sizes[0])
    results = []
    for n, inputs in ((net, x), (exact, x.double())):
        inputs = inputs.clone().requires_grad_(frozen or sizes[0] == 2)
        y = nn.Sequential(*n)(inputs) if n is exact else n(inputs)
        wanted = [t for t in (inputs, *n.parameters()) if t.requires_grad]
        results.append([y.detach(), *torch.autograd.grad(y.square().sum(), wanted)])
    for found, expected in zip(*results, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=5e-6 * max(1, expected.abs().max().item()))


def test_a_network_gives_the_same_with_and_without_gradients() -> None:
    net, x = MLP(2, [10, 10], 3), torch.randn(50, 2)
    with torch.no_grad():
        expected = net(x)
    assert torch.equal(net(x).detach(), expected)
    with torch.inference_mode():
        assert torch.equal(net(x), expected)
    assert torch.equal(expected, tanh_network(x, [m.weight for m in [*net][::2]], [m.bias for m in [*net][::2]]))
    assert net(x[:0]).shape == (0, 3)
    net(x[:0]).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())
