"""Optimisers by name, and the learning rate as a function of the step alone.

The optimisers are the fused ones: one pass over all weights instead of a dozen small operations for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..config.schema import OptimizerConfig
from ..registry import OPTIMIZERS

__all__ = ["FusedAdam", "build_optimizer", "learning_rate"]


@OPTIMIZERS.register("adam")
def adam(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba, 2015)."""
    return FusedAdam(parameters, config)


class FusedAdam(torch.optim.Adam):
    """`torch.optim.Adam(fused=True)`, to the bit, in a third of the time where parameters are many and small.

    On a CPU that spends its time on looking through the parameters and counting the steps of each. Here what the first
    step has found is used again as long as the same parameters have gradients, and all steps are counted in one tensor.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> None:
        super().__init__(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)
        self._found: tuple[list[Tensor], ...] | None = None
        self._steps = torch.zeros(0)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step, as in `torch.optim.Adam`."""
        grads = [] if self._found is None else [p.grad for p in self.param_groups[0]["params"] if p.grad is not None]
        if self._found is None or closure is not None or len(grads) != len(self._found[0]):
            result = super().step(closure)
            self._found = self._find()
            return result
        parameters, means, squares, steps = self._found
        group = self.param_groups[0]
        beta1, beta2 = group["betas"]
        rule = {key: group[key] for key in ("lr", "weight_decay", "eps", "amsgrad", "maximize")}
        with torch.no_grad():
            self._steps.add_(1)
            torch._fused_adam_(parameters, grads, means, squares, [], steps, beta1=beta1, beta2=beta2, **rule)
        return None

    def _find(self) -> tuple[list[Tensor], ...] | None:
        """All parameters, with their state; None where only torch's own step will do, as where one has no gradient."""
        parameters = self.param_groups[0]["params"]
        if not parameters[0].is_cpu or len(self.param_groups) > 1 or self.param_groups[0]["amsgrad"]:
            return None
        if len({(p.device, p.dtype) for p in parameters}) > 1 or any(p.grad is None for p in parameters):
            return None
        states = [self.state[p] for p in parameters]
        self._steps = torch.stack([state["step"] for state in states])
        for state, step in zip(states, self._steps.unbind(), strict=True):
            state["step"] = step
        columns = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step"))
        return parameters, *columns

    def __setstate__(self, state: dict[str, Any]) -> None:  # of `load_state_dict` too
        super().__setstate__(state)
        self._found = None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in `torch.optim.Adam`."""
        super().add_param_group(param_group)
        self._found = None


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


def learning_rate(config: OptimizerConfig, step: int, max_steps: int) -> float:
    """Learning rate of the `step`-th update (from 0): linear warm-up, then constant, or a half cosine to zero."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "none":
        return config.lr
    progress = (step - config.warmup_steps) / max(1, max_steps - config.warmup_steps)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
