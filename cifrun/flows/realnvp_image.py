"""RealNVP of images: affine couplings at several resolutions, half of the channels factored out between them.

    at each scale:  3 couplings of checkerboards,  squeeze,  3 couplings of channels,  factor out half
    at the last:    4 couplings of checkerboards

Reference: Dinh, Sohl-Dickstein, Bengio, "Density estimation using Real NVP", ICLR 2017
(https://arxiv.org/abs/1605.08803).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from ..bijections.base import Bijection
from ..bijections.image_coupling import ChannelCoupling, CheckerboardCoupling
from ..config.fields import Sizes, registered, setting
from ..nets.conv import ConvResNet
from ..registry import FLOWS
from .base import NORMS, FlowConfig, Norm
from .multiscale import MultiScale


@registered(FLOWS, "realnvp_image")
class RealNVPImage(FlowConfig):
    """RealNVP of images: checkerboard and channel couplings at several scales (Dinh et al., 2017)."""

    images = True

    depth: int = setting(3, "couplings of each kind at a scale; one more of checkerboards at the last", ge=1)
    scales: int = setting(2, "resolutions, each half the one before", ge=1)
    hidden: Sizes = setting([32, 32, 32, 32], "channels of the residual blocks of each coupling's network")
    norm: Norm = setting("actnorm", "normalisation after each step")

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        def net(inputs: int, outputs: int) -> nn.Module:
            return ConvResNet(inputs, self.hidden, outputs, zero_init=True)

        stack = MultiScale(shape, self.scales, self.family)
        for scale in range(self.scales):
            last = scale == self.scales - 1
            for k in range(self.depth + last):
                stack.add(partial(CheckerboardCoupling, net=net, parity=k), *NORMS[self.norm])
            if last:
                break
            stack.squeeze()
            for k in range(self.depth):
                stack.add(partial(ChannelCoupling, net=net, parity=k), *NORMS[self.norm])
            stack.factor_out()
        return stack.steps
