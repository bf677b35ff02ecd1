"""Convolutional networks: what they compute, layer by layer, and where they start."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cifrun.nets.conv import ConvNet, ConvResNet


@pytest.mark.parametrize("hidden", [[], [4], [4, 6]])
def test_residual_networks_start_where_they_should(hidden: list[int]) -> None:
    x = torch.randn(3, 2, 5, 4)
    assert ConvResNet(2, hidden, 7)(x).shape == (3, 7, 5, 4)
    assert not ConvResNet(2, hidden, 7, zero_init=True)(x).any()
    assert not ConvNet(2, 4, 7, zero_init=True)(x).any()


def test_three_convolutions_with_the_activation_between_them() -> None:
    torch.manual_seed(0)
    net, x = ConvNet(2, 4, 3, "tanh"), torch.randn(5, 2, 6, 3)
    w = net.state_dict()
    h = torch.tanh(F.conv2d(x, w["0.weight"], w["0.bias"], padding=1))
    h = torch.tanh(F.conv2d(h, w["2.weight"], w["2.bias"]))
    torch.testing.assert_close(net(x), F.conv2d(h, w["4.weight"], w["4.bias"], padding=1))


def test_a_block_whose_own_part_is_zero_passes_on_what_it_was_given() -> None:
    torch.manual_seed(0)
    net, x = ConvResNet(2, [4, 4], 3, "silu"), torch.randn(5, 2, 6, 3)
    for block in net.blocks:
        for parameter in block.parameters():
            torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(net(x), net.last(net.first(x)))
