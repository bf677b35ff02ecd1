"""Residual flow: every step is x + g(x) with Lip g ≤ κ < 1.

    f_l⁻¹(x) = x + g_l(x),     max(Lip F, Lip F⁻¹) ≤ max(1 + κ, 1/(1 − κ))^L

Reference: Chen et al., "Residual flows for invertible generative modeling", NeurIPS 2019
(https://arxiv.org/abs/1906.02735).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..bijections.base import Bijection
from ..bijections.residual import ResidualBlock
from ..config.fields import Sizes, registered, setting
from ..nets.lipschitz.networks import LipschitzMLP
from ..nets.lipschitz.power_iteration import Iterations
from ..registry import FLOWS
from .base import FlowConfig, with_norm


@registered(FLOWS, "resflow")
class ResFlow(FlowConfig):
    """Residual flow: blocks x + g(x) with Lip g ≤ κ < 1 (Chen et al., 2019)."""

    depth: int = setting(10, "number of steps L, each a residual block", ge=1)
    hidden: Sizes = setting([64, 64, 64, 64], "hidden sizes of each g")
    lipschitz: float = setting(0.9, "κ, the bound on Lip g of each block", gt=0, lt=1)
    logdet: Literal["auto", "exact", "unbiased"] = setting(
        "auto",
        "log-determinant in training: exact, unbiased (Russian roulette), or auto: exact up to 8 dimensions; in "
        "evaluation it is exact up to 128",
    )
    train_iterations: int = setting(5, "power iterations a training step", ge=1)
    eval_iterations: int = setting(200, "most power iterations in evaluation", ge=1)

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        (features,) = self.flat(shape)
        iterations = Iterations(self.train_iterations, self.eval_iterations)
        nets = [LipschitzMLP(features, self.hidden, self.lipschitz, iterations) for _ in range(self.depth)]
        return with_norm([ResidualBlock(shape, net, self.logdet) for net in nets], self.norm)
