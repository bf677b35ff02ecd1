"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ..config.schema import OptimizerConfig
from ..registry import OPTIMIZERS


@OPTIMIZERS.register("sgd", lr=0.01, schedule="none")
def sgd(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Stochastic gradient descent, momentum 0.9; clipped, as one steep batch could throw the weights away."""
    return torch.optim.SGD(parameters, lr=config.lr, momentum=0.9, weight_decay=config.weight_decay, fused=True)
