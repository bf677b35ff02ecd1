"""One update of the weights: log w, the objective, its gradient, the optimiser's step.

    θ ← θ − η · Adam(∇θ −(1/B) Σ_b objective(log w(x_b)))

The batch may be shared by several processes, and each share gone through in several micro-batches: gradients are sums
over data, so the update is the same, to rounding, and so are the random numbers (`rng.share`).

Nothing here waits for the device: what became of an update stays there as tensors until somebody reads it. A loss or a
gradient that is not finite does not say where to go, so the weights are left alone; that too is decided on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from . import processes, rng
from .config import Config
from .errors import ConfigError, TrainingError
from .memory import is_short_of_memory, micro_batches
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
        config: Gives objective, optimiser, micro-batches, and whether to compile.
        fabric: Device and precision.
        events: Makes of some rows of a batch the events on the device, (rows, *shape); a batch is events if not given.
    """

    def __init__(
        self, model: Model, config: Config, fabric: Fabric, events: Callable[[Tensor], Tensor] = lambda x: x
    ) -> None:
        if config.device.compile:
            model.compile_training()
        self.model = model
        self.module, self.optimizer = fabric.setup(model, build_optimizer(model.parameters(), config.optimizer))
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._fabric = fabric
        self._events = events
        self._objective = OBJECTIVES[config.objective.name]
        self._importance_samples = config.objective.importance_samples
        self._max_norm = config.optimizer.max_grad_norm
        self._wanted = config.trainer.micro_batches
        self._micro_batches = 0  # until the first batch comes, if memory is to say
        self._counts = torch.zeros(2, dtype=torch.long, device=fabric.device)  # skipped, and of late in a row

    def __call__(self, batch: Tensor, lr: float) -> Outcome:
        """Update with all of a batch, (B, …), of which this process takes its share, at learning rate `lr`.

        Errors:
            ConfigError: the batch has fewer rows than there are processes and micro-batches.
            TrainingError: the memory of the device is too small for a micro-batch.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.module.train()
        loss, elbo = self._gradient(batch)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self._max_norm is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self._max_norm, norm)
        self._step(~(loss.isfinite() & norm.isfinite()))
        return Outcome(loss, elbo, norm.detach())

    def _gradient(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Fill in the gradient of the whole batch; its loss and ELBO."""
        before = rng.get_state()
        while True:
            parts = self._parts(batch)
            try:
                sums = self._accumulate(batch, parts, before)
            except (RuntimeError, MemoryError) as error:
                if not is_short_of_memory(error):
                    raise
                rows = len(parts[0])
                if self._wanted != "auto" or processes.count() > 1 or rows == 1:
                    raise TrainingError(
                        f"the memory of {self._fabric.device} is too small for {rows} data at once, trainer.batch_size "
                        f"= {len(batch)} in {self._micro_batches * processes.count()} parts: lower it, or raise "
                        f"trainer.micro_batches, which changes no result"
                    ) from None
                self._micro_batches = min(2 * self._micro_batches, len(batch))
                rng.set_state(before)
                if self._fabric.device.type == "cuda":
                    torch.cuda.empty_cache()
            else:
                loss, elbo = processes.total(sums) / len(batch)
                return loss, elbo

    def _parts(self, batch: Tensor) -> list[range]:
        """The rows of this process, a range for each micro-batch."""
        count, rank = processes.count(), processes.rank()
        if not self._micro_batches:
            share = -(-len(batch) // count)
            found = self._wanted
            if found == "auto":
                found = micro_batches(self.model, batch[:share], self._log_w)
            self._micro_batches = processes.most(found)
        parts = count * self._micro_batches
        if parts > len(batch):
            raise ConfigError(
                f"a batch of {len(batch)} can't be cut into {parts} parts, one for each process and micro-batch: raise "
                f"trainer.batch_size, or lower device.count or trainer.micro_batches"
            )
        ends = [len(batch) * k // parts for k in range(parts + 1)]
        mine = range(rank * self._micro_batches, (rank + 1) * self._micro_batches)
        return [range(ends[k], ends[k + 1]) for k in mine]

    def _log_w(self, rows: Tensor) -> Tensor:
        return self.model.log_w(self._events(rows), self._importance_samples)

    def _accumulate(self, batch: Tensor, parts: list[range], before: dict[str, Tensor]) -> Tensor:
        """Gradients of all parts, and the sums over their data of the loss and of the ELBO, (2,)."""
        self.optimizer.zero_grad(set_to_none=True)
        sums = []
        for part in parts:
            if part is not parts[0]:
                rng.set_state(before)
            with (
                rng.share(part.start, part.stop, len(batch)),
                self._fabric.no_backward_sync(self.module, enabled=part is not parts[-1]),
            ):
                x = self._events(batch[part.start : part.stop])
                log_w = self.module(x, self._importance_samples, prepare=part is parts[0])
                loss = -self._objective(log_w).sum()
                # Of several processes, gradients are averaged.
                self._fabric.backward(loss * (processes.count() / len(batch)))
            sums.append(torch.stack([loss.detach(), log_w.detach().mean(0).sum()]))
        return torch.stack(sums).sum(0)

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
