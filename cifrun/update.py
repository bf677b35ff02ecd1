"""One update of the weights: log w, the objective, its gradient, the optimiser's step.

    θ ← θ − η · Adam(∇θ −(1/B) Σ_b objective(log w(x_b)))

Nothing here waits for the device: what became of an update stays there as tensors until somebody reads it. A loss or a
gradient that is not finite does not say where to go, so the weights are left alone; that too is decided on the device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from .config import Config
from .model import Model
from .optim import build_optimizer
from .registry import OBJECTIVES
from .state import TrainingState

__all__ = ["Outcome", "Update"]


class Outcome(NamedTuple):
    """Numbers of one update, each a tensor () on the device."""

    loss: Tensor  # minus the objective, mean over the batch, nats
    elbo: Tensor  # mean log w over batch and importance samples, nats
    grad_norm: Tensor  # length of the gradient of all weights, before it is clipped


class Update:
    """What changes a model's weights, a batch at a time.

    Arguments:
        model: On the CPU; `fabric` takes it to its device.
        config: Gives objective, optimiser, and whether to compile.
        fabric: Device and precision.
    """

    def __init__(self, model: Model, config: Config, fabric: Fabric) -> None:
        if config.device.compile:
            model.compile_training()
        self.module, self.optimizer = fabric.setup(model, build_optimizer(model.parameters(), config.optimizer))
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._fabric = fabric
        self._objective = OBJECTIVES[config.objective.name]
        self._importance_samples = config.objective.importance_samples
        self._max_norm = config.optimizer.max_grad_norm
        self._counts = torch.zeros(2, dtype=torch.long, device=fabric.device)  # skipped, and of late in a row

    def __call__(self, x: Tensor, lr: float) -> Outcome:
        """Update with the batch x (batch, *shape) at learning rate `lr`."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.module.train()
        log_w = self.module(x, self._importance_samples)
        loss = -self._objective(log_w).mean()
        self.optimizer.zero_grad(set_to_none=True)
        self._fabric.backward(loss)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self._max_norm is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self._max_norm, norm)
        self._step(~(loss.isfinite() & norm.isfinite()))
        return Outcome(loss.detach(), log_w.detach().mean(), norm.detach())

    def _step(self, bad: Tensor) -> None:
        """Step the optimiser unless `bad`, and count."""
        inner = self.optimizer.optimizer
        if inner.defaults.get("fused"):
            inner.found_inf = bad.float()  # where it is 1, a fused optimiser leaves weights and moments as they are
            self.optimizer.step()
        elif not bad.item():
            self.optimizer.step()
        self._counts = torch.stack([self._counts[0] + bad, (self._counts[1] + 1) * bad])

    def start_from(self, state: TrainingState) -> None:
        """Take over the counts of skipped steps; call it once the optimiser's own state has been restored."""
        inner = self.optimizer.optimizer
        for group in inner.param_groups:  # a checkpoint may be of a time when optimisers were not fused
            group.update({key: inner.defaults[key] for key in ("fused", "foreach") if key in inner.defaults})
        self._counts = self._counts.new_tensor([state.skipped, state.bad_steps])

    def count(self, state: TrainingState) -> None:
        """Bring the counts of skipped steps up to date in `state`; this waits for the device."""
        state.skipped, state.bad_steps = self._counts.tolist()
