"""One update of the weights: log w, the objective, its gradient, the optimiser's step.

    θ ← θ − η · Adam(∇θ −(1/B) Σ_b objective(log w(x_b)))

The batch may be shared by several processes, and each share gone through in several micro-batches: gradients are sums
over data, so the update is the same, to rounding, and so are the random numbers (`rng.share`).

Nothing here waits for the device: what became of an update stays there as tensors until somebody reads it. A loss or a
gradient that is not finite does not say where to go, so the weights are left alone; that too is decided on the device.
On a GPU an update that does the same each time is recorded after a few, and then replayed as a whole (`cuda_graph`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..cif.memory import micro_batches
from ..cif.model import Model
from ..compute import processes, rng
from ..compute.device import Fabric
from ..compute.memory import is_short_of_memory
from ..config.schema import Config
from ..data.loader import Loader
from ..errors import ConfigError, TrainingError
from ..objectives.base import gradient_of
from ..registry import OBJECTIVES, OPTIMIZERS
from ..runs.checkpoint import Checkpoint
from .averages import Averages
from .cuda_graph import Recorded, watched
from .training_state import TrainingState

#: Updates before one is recorded; the last of them is watched. They set up optimiser, libraries and compiled code.
WARM_UP = 3


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
        loader: Brings the data to the device.

    Raises:
        ConfigError: A batch has fewer rows than there are processes and micro-batches.
    """

    def __init__(self, model: Model, config: Config, fabric: Fabric, loader: Loader) -> None:
        if config.device.compile:
            model.compile_training()
        self.model = model
        optimizer = OPTIMIZERS[config.optimizer.name](model.parameters(), config.optimizer)
        self.module, self.optimizer = fabric.setup(model, optimizer)
        self.averages = Averages(model, config.optimizer.ema)
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._fabric = fabric
        self.loader = loader
        self._config = config
        self._objective = OBJECTIVES[config.objective.name]
        self._estimator = gradient_of(self._objective, config.objective.gradient, model)
        self._micro_batches = 0  # until the first batch comes, if memory is to say
        if config.trainer.micro_batches != "auto":
            self._check_parts(loader.batches.size, config.trainer.micro_batches)
        self._counts = torch.zeros(2, dtype=torch.long, device=fabric.device)  # skipped, and of late in a row
        self._lr = torch.zeros((), device=fabric.device)  # where a recorded update finds it
        self._recorded: Recorded | None = None
        graphs = config.device.cuda_graph and fabric.device.type == "cuda" and processes.count() == 1
        self._until_recording = WARM_UP if graphs else 0

    def __call__(self, rows: Tensor, lr: float) -> Outcome:
        """Update with the data of these rows, (batch,), of which this process takes its share, at learning rate `lr`.

        Raises:
            TrainingError: The memory of the device is too small for a micro-batch.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("share", 1.0)
        self._lr.fill_(lr)
        if not self.model.training:  # a walk through all modules
            self.module.train()
        if self._recorded is not None:
            fetched = self.loader.fetch(rows)
            if self._recorded.takes(fetched):
                outcome = self._recorded(fetched)
                self.averages.update()
                return Outcome(*outcome.unbind())
        with watched() if self._until_recording == 1 else nullcontext() as watch:
            outcome = self._apply(self._gradient(rows))
        if watch is not None and watch.repeatable and self._micro_batches == 1 and watch.fits():
            self._record(self.loader.fetch(rows))
        self._until_recording = max(0, self._until_recording - 1)
        self.averages.update()
        return Outcome(*outcome.unbind())

    def _apply(self, means: Tensor) -> Tensor:
        """Use the gradient that is there; the numbers of an `Outcome`, (3,), from the first two of them."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients).detach()
        if (most := self._config.optimizer.max_grad_norm) is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, most, norm)
        self._step(~(means[0].isfinite() & norm.isfinite()))
        return torch.cat([means, norm[None]])

    def _record(self, fetched: Tensor) -> None:
        """Record an update with what the loader fetched; the next one replays it."""

        def work(fetched: Tensor) -> Tensor:
            self.optimizer.zero_grad(set_to_none=True)
            return self._apply(self._part(fetched, len(fetched)) / len(fetched))

        self.optimizer.zero_grad(set_to_none=True)  # recorded gradients have memory of their own
        changes = chain(self.model.parameters(), self.model.buffers())
        self._recorded = Recorded(work, fetched, changes)

    def _gradient(self, rows: Tensor) -> Tensor:
        """Fill in the gradient of the whole batch; its loss and ELBO, (2,)."""
        before = rng.get_state()
        while True:
            parts = self._parts(rows)
            try:
                sums = self._accumulate(rows, parts, before)
            except (RuntimeError, MemoryError) as error:
                if not is_short_of_memory(error):
                    raise
                size = len(parts[0])
                if self._config.trainer.micro_batches != "auto" or processes.count() > 1 or size == 1:
                    raise TrainingError(
                        f"the memory of {self._fabric.device} is too small for {size} data at once, trainer.batch_size "
                        f"= {len(rows)} in {self._micro_batches * processes.count()} parts: lower it, or raise "
                        f"trainer.micro_batches, which changes no result"
                    ) from None
                self._micro_batches = min(2 * self._micro_batches, len(rows))
                rng.set_state(before)
                if self._fabric.device.type == "cuda":
                    torch.cuda.empty_cache()
            else:
                return processes.total(sums) / len(rows)

    def _parts(self, rows: Tensor) -> list[range]:
        """The part of a batch that is for this process, a range for each micro-batch."""
        count, rank = processes.count(), processes.rank()
        if not self._micro_batches:
            found = self._config.trainer.micro_batches
            if found == "auto":
                found = micro_batches(self.model, rows[: -(-len(rows) // count)], self._log_w)
            self._micro_batches = processes.most(found)
        parts = self._check_parts(len(rows), self._micro_batches)
        ends = [len(rows) * k // parts for k in range(parts + 1)]
        mine = range(rank * self._micro_batches, (rank + 1) * self._micro_batches)
        return [range(ends[k], ends[k + 1]) for k in mine]

    def _check_parts(self, size: int, micro_batches: int) -> int:
        """In how many parts a batch is cut, each of which has a row."""
        if (parts := processes.count() * micro_batches) > size:
            raise ConfigError(
                f"a batch of {size} can't be cut into {parts} parts, one for each process and micro-batch: raise "
                f"trainer.batch_size, or lower device.count or trainer.micro_batches"
            )
        return parts

    def _log_w(self, rows: Tensor) -> Tensor:
        m = self._config.objective.importance_samples
        return self.model(self.loader.events(self.loader.fetch(rows)), m, gradient=self._estimator())

    def _accumulate(self, rows: Tensor, parts: list[range], before: dict[str, Tensor]) -> Tensor:
        """Gradients of all parts, and the sums over their data of the loss and of the ELBO, (2,)."""
        self.optimizer.zero_grad(set_to_none=True)
        sums = []
        for part in parts:
            first, last = part is parts[0], part is parts[-1]
            if not first:
                rng.set_state(before)
            fetched = self.loader.fetch(rows[part.start : part.stop])
            with (
                rng.share(part.start, part.stop, len(rows)),
                self._fabric.no_backward_sync(self.module, enabled=not last),
            ):
                sums.append(self._part(fetched, len(rows), first))
        return torch.stack(sums).sum(0)

    def _part(self, fetched: Tensor, whole: int, first: bool = True) -> Tensor:
        """Add the gradient of some data of a batch of `whole`; the sums over them of the loss and of the ELBO, (2,)."""
        m = self._config.objective.importance_samples
        log_w = self.module(self.loader.events(fetched), m, prepare=first, gradient=self._estimator())
        loss = -self._objective(log_w).sum()
        # Of several processes, gradients are averaged.
        self._fabric.backward(loss * (processes.count() / whole))
        return torch.stack([loss.detach(), log_w.detach().mean(0).sum()])

    def _step(self, bad: Tensor) -> None:
        """Step the optimiser unless `bad`, and count."""
        inner = self.optimizer.optimizer
        if inner.defaults.get("fused") and not bad.is_cpu:
            inner.found_inf = bad.float()  # where it is 1, a fused optimiser leaves weights and moments as they are
            with self._rate_on_device():
                self.optimizer.step()
        elif not bad.item():  # on a CPU there is nothing to wait for
            self.optimizer.step()
        self._counts.copy_(torch.stack([self._counts[0] + bad, (self._counts[1] + 1) * bad]))

    @contextmanager
    def _rate_on_device(self) -> Iterator[None]:
        """Inside, a fused optimiser on a GPU reads the learning rate there, as it must in a recorded update.

        It does in every update, as it reads it in single precision: so what is recorded and what is not agree.
        """
        groups = self.optimizer.param_groups if self._fabric.device.type == "cuda" else []
        before = [dict(group) for group in groups]
        for group in groups:
            group["lr"] = self._lr * group.get("share", 1.0)
            if "capturable" in group:
                group["capturable"] = torch.cuda.is_current_stream_capturing()
        try:
            yield
        finally:
            for group, old in zip(groups, before, strict=True):
                group.update({key: old[key] for key in ("lr", "capturable") if key in old})

    def start_from(self, state: TrainingState) -> None:
        """Take over the counts of skipped steps; call it once the optimiser's own state has been restored."""
        inner = self.optimizer.optimizer
        for group in inner.param_groups:  # a checkpoint may be of a time when optimisers were not fused
            group.update({key: inner.defaults[key] for key in ("fused", "foreach") if key in inner.defaults})
        self._counts = self._counts.new_tensor([state.skipped, state.bad_steps])

    def checkpoint(self, state: TrainingState) -> Checkpoint:
        """All that the next step depends on."""
        return state.checkpoint(self.model, self.optimizer, self.averages)

    def count(self, state: TrainingState) -> None:
        """Bring the counts of skipped steps up to date in `state`; this waits for the device."""
        state.skipped, state.bad_steps = self._counts.tolist()
