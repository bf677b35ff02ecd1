"""Optimisers by name. They are the fused ones: one pass over all weights instead of a dozen operations for each."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ..config.schema import OptimizerConfig
from ..registry import OPTIMIZERS

__all__ = ["build_optimizer"]


@OPTIMIZERS.register("adam")
def adam(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba, 2015)."""
    return torch.optim.Adam(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)


@OPTIMIZERS.register("adamw")
def adamw(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)


@OPTIMIZERS.register("sgd")
def sgd(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum 0.9."""
    return torch.optim.SGD(parameters, lr=config.lr, momentum=0.9, weight_decay=config.weight_decay, fused=True)


def build_optimizer(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser that the config names."""
    return OPTIMIZERS[config.name](parameters, config)
