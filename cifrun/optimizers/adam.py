"""Adam, with decoupled weight decay AdamW, and with the largest gradient in place of the mean square Adamax."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..config.schema import OptimizerConfig
from ..registry import OPTIMIZERS

#: What published settings of flows have.
PUBLISHED: dict[str, Any] = {"lr": 1e-3, "schedule": "none", "max_grad_norm": None}


@OPTIMIZERS.register("adam", **PUBLISHED)
def adam(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba, 2015)."""
    return torch.optim.Adam(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)


@OPTIMIZERS.register("adamw", **PUBLISHED, weight_decay=0.01)
def adamw(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)


@OPTIMIZERS.register("adamax", **{**PUBLISHED, "lr": 0.002})
def adamax(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Adam with a decaying maximum of |gradient| for its root mean square (Kingma & Ba, 2015)."""
    return torch.optim.Adamax(parameters, lr=config.lr, weight_decay=config.weight_decay, foreach=True)
