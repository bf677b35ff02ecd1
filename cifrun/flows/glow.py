"""Glow: at each level a squeeze and K steps of actnorm, invertible 1×1 convolution and coupling; half is factored out.

    f_l⁻¹ = coupling ∘ (1×1 convolution) ∘ actnorm

Reference: Kingma, Dhariwal, "Glow: generative flow with invertible 1×1 convolutions", NeurIPS 2018
(https://arxiv.org/abs/1807.03039).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from ..bijections.base import Bijection
from ..bijections.image_coupling import ChannelCoupling
from ..bijections.linear import InvertibleConv
from ..config.fields import registered, setting
from ..nets.conv import ConvNet
from ..registry import FLOWS
from .base import NORMS, FlowConfig, Norm
from .multiscale import MultiScale


@registered(FLOWS, "glow")
class Glow(FlowConfig):
    """Glow: actnorm, invertible 1×1 convolutions and channel couplings at several scales (Kingma, Dhariwal, 2018)."""

    images = True

    depth: int = setting(8, "steps K of a level", ge=1)
    scales: int = setting(3, "resolutions, each half the one before; the steps are at all but the first", ge=2)
    width: int = setting(128, "channels of each coupling's network", ge=1)
    norm: Norm = setting("actnorm", "normalisation before each 1×1 convolution")

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        def net(inputs: int, outputs: int) -> nn.Module:
            return ConvNet(inputs, self.width, outputs, zero_init=True)

        stack = MultiScale(shape, self.scales, self.family)
        for level in range(1, self.scales):
            stack.squeeze()
            for _ in range(self.depth):
                stack.add(*NORMS[self.norm], InvertibleConv, partial(ChannelCoupling, net=net))
            if level < self.scales - 1:
                stack.factor_out()
        return stack.steps
