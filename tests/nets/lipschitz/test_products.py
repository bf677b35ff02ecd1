"""Products with the Jacobian of a Lipschitz network, by hand and by automatic differentiation: the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cifrun.nets._kernels import silu
from cifrun.nets.lipschitz.networks import LipschitzConvNet, LipschitzMLP, LipschitzNet
from cifrun.nets.lipschitz.products import ByRows, Differentiated

CASES = {
    "one hidden layer": ((3,), lambda: LipschitzMLP(3, [5], 0.9)),
    "three hidden layers": ((4,), lambda: LipschitzMLP(4, [7, 5, 6], 0.9)),
    "one number": ((1,), lambda: LipschitzMLP(1, [5, 4], 0.9)),
    "two convolutions": ((2, 3, 5), lambda: LipschitzConvNet((2, 3, 5), [4], 0.9)),
    "four convolutions": ((1, 4, 4), lambda: LipschitzConvNet((1, 4, 4), [6, 5, 4], 0.9)),
    "one pixel": ((3, 1, 1), lambda: LipschitzConvNet((3, 1, 1), [4, 4], 0.9)),
}


def case(name: str, count: int = 6) -> tuple[LipschitzNet, list[Tensor]]:
    """A network with weights of size one, and x, v and two gradients."""
    torch.manual_seed(0)
    shape, make = CASES[name]
    net = make().double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    return net, [torch.randn(count, *shape, dtype=torch.float64) for _ in range(4)]


def everything(net: LipschitzNet, inputs: list[Tensor], by_hand: bool) -> list[Tensor]:
    """g(x), Jᵀ v, and the gradients in x and in all parameters."""
    x, v, grad_value, grad_product = inputs
    if by_hand:
        products, theta = net.products(x)
        assert isinstance(products, ByRows)
    else:
        products, theta = Differentiated(net.apply_with), net.derived()
    with torch.no_grad():
        value, pulled = products.at(x, *theta)
        torch.testing.assert_close(products.value(x, *theta), value)
        found = products.gradients(x, v, grad_value, grad_product, *theta)
        product = pulled(v)
    loss = sum((t * g).sum() for t, g in zip(theta, found[1:], strict=True) if g is not None)
    return [value, product, found[0], *torch.autograd.grad(loss, list(net.parameters()))]


@pytest.mark.parametrize("count", [0, 1, 6])
@pytest.mark.parametrize("name", CASES)
def test_both_ways_are_the_same(name: str, count: int) -> None:
    net, inputs = case(name, count)
    for a, b in zip(everything(net, inputs, True), everything(net, inputs, False), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["three hidden layers", "four convolutions"])
@pytest.mark.parametrize("size", [1, 50, 333])
def test_many_rows_are_gone_through_in_parts(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, inputs = case(name)
    expected = everything(net, inputs, True)
    monkeypatch.setattr(silu, "PASS", size)
    for a, b in zip(everything(net, inputs, True), expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", CASES)
def test_the_products_are_those_of_the_jacobian(name: str) -> None:
    net, (x, v, *_) = case(name)
    with torch.no_grad():
        value, jacobian = net.with_jacobian(x)
        products, theta = net.products(x)
        found, pulled = products.at(x, *theta)
        torch.testing.assert_close(found, value)
        torch.testing.assert_close(pulled(v).flatten(1), (v.flatten(1)[:, None] @ jacobian)[:, 0])


def test_a_network_of_one_layer_and_one_under_mixed_precision_are_differentiated() -> None:
    x = torch.randn(2, 3)
    assert isinstance(LipschitzMLP(3, [], 0.9).products(x)[0], Differentiated)
    with torch.autocast("cpu", torch.bfloat16):
        assert isinstance(LipschitzMLP(3, [4], 0.9).products(x)[0], Differentiated)
