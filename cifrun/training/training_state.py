"""Where training stands: all that the next step depends on, to and from one checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from ..compute import rng
from ..config.schema import OptimizerConfig, TrainerConfig
from ..errors import RunError
from ..runs.checkpoint import Checkpoint, DataFacts
from ..runs.validation import check, kinds_of, saved
from . import optimizer_state
from .averages import Averages


@dataclass
class TrainingState(DataFacts):
    """Counters of the training loop, beside what a checkpoint says of the data.

    Attributes:
        step: Steps done.
        skipped: Steps whose loss or gradient was not finite, and which changed nothing.
        bad_steps: How many of the last steps in a row were skipped.
        cuts: How often the learning rate was lowered, as validation did not improve (`optimizer.schedule=plateau`).
        best_valid: Best validation log-likelihood so far, nats.
        bad_validations: Validations since then.
        wall_seconds: Time spent training, and fitting p_0 before.
    """

    step: int = saved("a whole number from 0", default=0)
    skipped: int = saved("a whole number from 0", default=0)
    bad_steps: int = saved("a whole number from 0", default=0)
    cuts: int = saved("a whole number from 0", default=0)
    best_valid: float | None = saved("a finite number", "null", default=None)
    bad_validations: int = saved("a whole number from 0", default=0)
    wall_seconds: float = saved("a finite number from 0", default=0.0)

    def improves(self, valid: float) -> bool:
        """Take note of a validation log-likelihood; True if it is the best so far."""
        better = math.isfinite(valid) and (self.best_valid is None or valid > self.best_valid)
        self.best_valid = valid if better else self.best_valid
        self.bad_validations = 0 if better else self.bad_validations + 1
        return better

    def lowers(self, optimizer: OptimizerConfig) -> None:
        """Lower the learning rate from now on if validation has not improved for `plateau_patience` times in a row."""
        patience = optimizer.plateau_patience
        if optimizer.schedule == "plateau" and self.bad_validations and self.bad_validations % patience == 0:
            self.cuts += 1

    def finished(self, trainer: TrainerConfig) -> bool:
        """All steps are done, or validation has not improved for too long."""
        out_of_patience = trainer.patience > 0 and self.bad_validations >= trainer.patience
        return self.step >= trainer.max_steps or out_of_patience

    def checkpoint(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, averages: Averages | None = None
    ) -> Checkpoint:
        """This state, the weights, and, with an optimiser, all else that the next step depends on.

        Where there are averages, "model" has them, for whoever uses the model, and "trained" the weights themselves.
        """
        weights, averaged = model.state_dict(), averages.named() if averages else {}
        tensors = {f"model.{k}": v for k, v in (weights | averaged).items()}
        tensors |= {f"trained.{k}": weights[k] for k in averaged}
        state: dict[str, Any] = asdict(self)
        if optimizer is not None:
            kept, beside = optimizer_state.pack(optimizer)
            tensors |= {f"optimizer.{k}": v for k, v in kept.items()}
            state |= beside
            tensors |= {f"rng.{k}": v for k, v in rng.get_state().items()}
        return Checkpoint(tensors, state)

    @classmethod
    def read(cls, state: Mapping[str, Any], origin: str) -> TrainingState:
        """The state in a checkpoint's, which may hold whatever JSON does.

        Raises:
            RunError: It can't be one.
        """
        state = {"cuts": 0, **state}  # checkpoints of before there were plateaus have none
        facts = DataFacts.of(state, origin)
        counters = {name: kinds for name, kinds in kinds_of(cls).items() if name not in vars(facts)}
        check(state, counters, origin, complete=True)
        return cls(**vars(facts), **{name: state[name] for name in counters})

    @classmethod
    def restore(
        cls,
        checkpoint: Checkpoint,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        origin: str,
        averages: Averages | None = None,
    ) -> TrainingState:
        """Put weights, their averages, optimiser and generators back; return the counters.

        Raises:
            RunError: They are another model's, or damaged.
        """
        state = cls.read(checkpoint.state, origin)
        checkpoint.load_model(model, origin)
        try:
            optimizer_state.unpack(optimizer, checkpoint.part("optimizer"), checkpoint.state)
            if averages is not None:
                averages.restore(checkpoint.part("trained"), state.step)
            rng.set_state(checkpoint.part("rng"))
        except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise RunError(f"{origin} does not hold a training state that fits this run") from error
        return state
