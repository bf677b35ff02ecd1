"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner, which follows the curvature within each matrix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..config.schema import OptimizerConfig
from ..errors import ConfigError
from ..registry import OPTIMIZERS


@OPTIMIZERS.register("soap", lr=0.003)
def soap(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """SOAP (Vyas et al., 2024), of the package pytorch_optimizer: Adam in a basis that follows the curvature."""
    try:
        from pytorch_optimizer import SOAP
    except ImportError as error:
        raise ConfigError("optimizer=soap needs the package pytorch_optimizer: pip install 'cifrun[soap]'") from error
    optimizer: torch.optim.Optimizer = SOAP(parameters, lr=config.lr, weight_decay=config.weight_decay)
    optimizer.register_step_post_hook(_lay_out)
    return optimizer


def _lay_out(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Lay out the state in memory as a checkpoint does: products differ with it in their last bits."""
    for entries in optimizer.state.values():
        for name, value in entries.items():
            entries[name] = _contiguous(value)


def _contiguous(value: Any) -> Any:
    if isinstance(value, list):
        return [_contiguous(x) for x in value]
    return value.contiguous() if isinstance(value, torch.Tensor) else value
