"""Convolutional networks: their shapes and starts, and the norm of a convolution as the operator that it is."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor

from cifrun.bijections.residual import ResidualBlock, log_det_unbiased
from cifrun.nets.conv import ConvNet, ConvResNet
from cifrun.nets.lipschitz.layers import LipschitzConv
from cifrun.nets.lipschitz.networks import LipschitzConvNet
from cifrun.nets.lipschitz.power_iteration import Iterations


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
    torch.testing.assert_close(layer.scale(), 0.5 / norm, rtol=1e-4, atol=0)
    if kernel > 1:  # the flattened kernel has another norm, and one below that of the operator
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2) < norm


def small_net() -> LipschitzConvNet:
    torch.manual_seed(1)
    net = LipschitzConvNet((2, 4, 4), [5, 5], 0.9, Iterations(eval=1000)).double()
    with torch.no_grad():
        for linear in net.linears:
            linear.weight.normal_()
            linear.bias.normal_()
    return net.eval()


def test_a_network_is_as_lipschitz_as_it_says() -> None:
    net = small_net()
    x = torch.randn(20, 2, 4, 4, dtype=torch.float64)
    norms = [torch.linalg.matrix_norm(j.reshape(32, 32), 2) for j in jacobians(net, x)]
    assert 0.1 < max(norms) <= 0.9 + 1e-6


def jacobians(net: LipschitzConvNet, x: Tensor) -> list[Tensor]:
    return [torch.autograd.functional.jacobian(lambda row: net(row[None])[0], row) for row in x]


def test_the_estimate_is_that_of_the_log_determinant() -> None:
    """The mean of 2 000 estimates is within 4 standard errors for each of 3 images: a false alarm in 5 000 runs."""
    net = small_net()
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    exact = torch.stack([torch.linalg.slogdet(torch.eye(32) + j.reshape(32, 32))[1] for j in jacobians(net, x)])
    block = ResidualBlock((2, 4, 4), net)
    torch.manual_seed(2)
    with torch.no_grad():
        found = block(x.repeat(2000, 1, 1, 1))[1].reshape(2000, 3)
    error = found.std(0) / 2000**0.5
    assert ((found.mean(0) - exact).abs() < 4 * error).all()
    assert (error < 0.05).all()


def test_what_is_kept_for_the_gradient_does_not_grow() -> None:
    """Neither with the terms of the series nor with the width of g, but for its weights."""

    class Box:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    def kept(hidden: int, terms: int) -> int:
        net = LipschitzConvNet((2, 8, 8), [hidden, hidden], 0.9)
        x = torch.randn(50, 2, 8, 8, requires_grad=True)
        boxes: list[weakref.ref[Box]] = []

        def pack(tensor: Tensor) -> Box:
            box = Box(tensor)
            boxes.append(weakref.ref(box))
            return box

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.tensor):
            value, log_det = log_det_unbiased(net, x, terms)
        alive = [box.tensor for reference in boxes if (box := reference()) is not None]
        (value.sum() + log_det.sum()).backward()
        assert x.grad is not None and x.grad.isfinite().all()
        return sum(tensor.numel() for tensor in alive if tensor.shape[:1] == (50,))

    counts = {kept(hidden, terms) for hidden in (4, 32) for terms in (1, 12)}
    assert len(counts) == 1 and counts.pop() <= 3 * 50 * 2 * 8 * 8


@pytest.mark.parametrize("hidden", [[], [4], [4, 6]])
def test_residual_networks_start_where_they_should(hidden: list[int]) -> None:
    x = torch.randn(3, 2, 5, 4)
    assert ConvResNet(2, hidden, 7)(x).shape == (3, 7, 5, 4)
    assert not ConvResNet(2, hidden, 7, zero_init=True)(x).any()
    assert not ConvNet(2, 4, 7, zero_init=True)(x).any()
