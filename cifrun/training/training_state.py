"""Where training stands: all that the next step depends on, to and from one checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..compute import rng
from ..config.schema import TrainerConfig
from ..errors import RunError
from ..runs.checkpoint import Checkpoint, DataFacts
from ..runs.validation import KINDS, check, is_any, kinds_of, saved

#: What a setting of an optimiser may be that is no tensor.
SETTING = ("null", "true or false", "a finite number")


@dataclass
class TrainingState(DataFacts):
    """Counters of the training loop, beside what a checkpoint says of the data.

    Attributes:
        step: Steps done.
        skipped: Steps whose loss or gradient was not finite, and which changed nothing.
        bad_steps: How many of the last steps in a row were skipped.
        best_valid: Best validation log-likelihood so far, nats.
        bad_validations: Validations since then.
        wall_seconds: Time spent training.
    """

    step: int = saved("a whole number from 0", default=0)
    skipped: int = saved("a whole number from 0", default=0)
    bad_steps: int = saved("a whole number from 0", default=0)
    best_valid: float | None = saved("a finite number", "null", default=None)
    bad_validations: int = saved("a whole number from 0", default=0)
    wall_seconds: float = saved("a finite number from 0", default=0.0)

    def improves(self, valid: float) -> bool:
        """Take note of a validation log-likelihood; True if it is the best so far."""
        better = math.isfinite(valid) and (self.best_valid is None or valid > self.best_valid)
        self.best_valid = valid if better else self.best_valid
        self.bad_validations = 0 if better else self.bad_validations + 1
        return better

    def finished(self, trainer: TrainerConfig) -> bool:
        """All steps are done, or validation has not improved for too long."""
        out_of_patience = trainer.patience > 0 and self.bad_validations >= trainer.patience
        return self.step >= trainer.max_steps or out_of_patience

    def checkpoint(self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Checkpoint:
        """This state, the weights, and, with an optimiser, all else that the next step depends on."""
        tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
        state: dict[str, Any] = asdict(self)
        if optimizer is not None:
            packed = optimizer.state_dict()
            state["param_groups"] = packed["param_groups"]
            state["optimizer_numbers"] = {}
            for index, entries in packed["state"].items():
                for name, value in entries.items():
                    if isinstance(value, Tensor):
                        tensors[f"optimizer.{index}.{name}"] = value
                    else:
                        state["optimizer_numbers"][f"{index}.{name}"] = value
            tensors |= {f"rng.{k}": v for k, v in rng.get_state().items()}
        return Checkpoint(tensors, state)

    @classmethod
    def read(cls, state: Mapping[str, Any], origin: str) -> TrainingState:
        """The state in a checkpoint's, which may hold whatever JSON does.

        Raises:
            RunError: It can't be one.
        """
        facts = DataFacts.of(state, origin)
        counters = {name: kinds for name, kinds in kinds_of(cls).items() if name not in vars(facts)}
        check(state, counters, origin, complete=True)
        return cls(**vars(facts), **{name: state[name] for name in counters})

    @classmethod
    def restore(
        cls, checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer, origin: str
    ) -> TrainingState:
        """Put weights, optimiser and generators back; return the counters.

        Raises:
            RunError: They are another model's, or damaged.
        """
        state = cls.read(checkpoint.state, origin)
        checkpoint.load_model(model, origin)
        try:
            groups, own = checkpoint.state["param_groups"], optimizer.state_dict()["param_groups"]
            if not _alike(groups, own):
                raise ValueError("groups of other parameters")
            tensors, numbers = checkpoint.part("optimizer"), checkpoint.state["optimizer_numbers"]
            if numbers.keys() & tensors.keys() or not all(is_any(number, SETTING) for number in numbers.values()):
                raise ValueError("numbers that are none, or in the place of tensors")
            packed: dict[int, dict[str, Any]] = {}
            for key, value in (tensors | numbers).items():
                index, _, name = key.partition(".")
                packed.setdefault(int(index), {})[name] = value
            optimizer.load_state_dict({"state": packed, "param_groups": groups})
            rng.set_state(checkpoint.part("rng"))
        except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise RunError(f"{origin} does not hold a training state that fits this run") from error
        return state


def _alike(saved: Any, own: Any) -> bool:
    """Whether a setting of an optimiser that was saved is of the kind of its own; a setting may be missing or new."""
    if isinstance(own, Mapping):
        known = saved.keys() & own.keys() if isinstance(saved, Mapping) else set()
        return "params" in known and saved["params"] == own["params"] and all(_alike(saved[k], own[k]) for k in known)
    if isinstance(own, (list, tuple)):
        same = isinstance(saved, (list, tuple)) and len(saved) == len(own)
        return same and all(map(_alike, saved, own))
    if own is None or isinstance(own, bool):
        return saved is None or isinstance(saved, bool)
    return KINDS["a finite number"](saved) if isinstance(own, (int, float)) else type(saved) is type(own)
