"""Residual flow of images: convolutional blocks x + g(x) with Lip g ≤ κ < 1 at several resolutions, then dense ones.

    f_l⁻¹(x) = x + g_l(x),     g = 3×3, 1×1 and 3×3 convolutions, each an operator of norm at most κ^{1/3}

Reference: Chen et al., "Residual flows for invertible generative modeling", NeurIPS 2019
(https://arxiv.org/abs/1906.02735).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..bijections.base import Bijection
from ..bijections.residual import ResidualBlock
from ..config.fields import Sizes, registered, setting
from ..nets.lipschitz.networks import LipschitzConvNet, LipschitzMLP
from ..nets.lipschitz.power_iteration import Iterations
from ..registry import FLOWS
from .base import NORMS, FlowConfig, Norm
from .multiscale import MultiScale


@registered(FLOWS, "resflow_image")
class ResFlowImage(FlowConfig):
    """Residual flow of images: convolutional blocks x + g(x) with Lip g ≤ κ < 1 (Chen et al., 2019)."""

    images = True

    depth: int = setting(4, "residual blocks at a scale", ge=1)
    scales: int = setting(3, "resolutions, each half the one before", ge=1)
    hidden: Sizes = setting([128, 128], "channels between the convolutions of each g")
    dense: int = setting(4, "dense residual blocks at the end", ge=0)
    dense_hidden: Sizes = setting([64, 64], "hidden sizes of each dense g")
    factor_out: bool = setting(False, "leave half of the channels behind at each change of scale")
    lipschitz: float = setting(0.98, "κ, the bound on Lip g of each block", gt=0, lt=1)
    train_iterations: int = setting(5, "power iterations a training step; with a tolerance, at most", ge=1)
    eval_iterations: int = setting(200, "most power iterations in evaluation", ge=1)
    tolerance: float | None = setting(
        None, "a training step's power iteration ends when the norm changes by less, which waits for the device", gt=0
    )
    norm: Norm = setting("actnorm", "normalisation before each block")

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        rule = self.lipschitz, Iterations(self.train_iterations, self.eval_iterations, self.tolerance)

        def convolutional(part: Sequence[int]) -> Bijection:
            return ResidualBlock(part, LipschitzConvNet(part, self.hidden, *rule), "unbiased")

        def dense(part: Sequence[int]) -> Bijection:
            return ResidualBlock(part, LipschitzMLP(part[0], self.dense_hidden, *rule), "unbiased")

        stack = MultiScale(shape, self.scales, self.family)
        for scale in range(self.scales):
            if scale:
                stack.squeeze()
                if self.factor_out:
                    stack.factor_out()
            for _ in range(self.depth):
                stack.add(*NORMS[self.norm], convolutional)
        if self.dense:
            stack.flatten()
        for _ in range(self.dense):
            stack.add(*NORMS[self.norm], dense)
        return stack.steps
