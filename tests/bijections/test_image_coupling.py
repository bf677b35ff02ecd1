"""Couplings of images: which pixels or channels they move."""

from __future__ import annotations

import torch
from torch import Tensor

from cifrun.bijections.image_coupling import ChannelCoupling


def images(*shape: int) -> Tensor:
    return torch.randn(5, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_a_channel_coupling_of_an_odd_number_of_channels() -> None:
    for parity in (0, 1):
        step = ChannelCoupling((3, 2, 2), lambda a, b: torch.nn.Conv2d(a, b, 1), parity).double()
        x = images(3, 2, 2)
        torch.testing.assert_close(step.inverse(step(x)[0]), x)
