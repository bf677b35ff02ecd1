"""Where training stands: all that the next step depends on, to and from one checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..compute import rng
from ..config.schema import OptimizerConfig, TrainerConfig
from ..errors import RunError
from ..runs.checkpoint import Checkpoint, DataFacts
from ..runs.validation import KINDS, check, is_any, kinds_of, saved
from .averages import Averages

#: What a setting of an optimiser may be that is no tensor.
SETTING = ("null", "true or false", "a finite number")


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
        wall_seconds: Time spent training.
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
            packed = optimizer.state_dict()
            state["param_groups"] = packed["param_groups"]
            state["optimizer_numbers"] = {}
            for index, entries in packed["state"].items():
                for name, value in _flat(entries, str(index)):
                    if isinstance(value, Tensor):
                        tensors[f"optimizer.{name}"] = value
                    else:
                        state["optimizer_numbers"][name] = value
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
            groups, own = checkpoint.state["param_groups"], optimizer.state_dict()["param_groups"]
            if not _alike(groups, own):
                raise ValueError("groups of other parameters")
            tensors, numbers = checkpoint.part("optimizer"), checkpoint.state["optimizer_numbers"]
            right = all(number == [] or is_any(number, SETTING) for number in numbers.values())
            if not right or numbers.keys() & tensors.keys():
                raise ValueError("numbers that are none, or in the place of tensors")
            # Copies begin at whole lines of memory, as what they are copies of did: products differ with that in their
            # last bits.
            copies = {name: tensor.clone() for name, tensor in tensors.items()}
            packed = {int(index): entries for index, entries in _nested(copies | numbers).items()}
            optimizer.load_state_dict({"state": packed, "param_groups": groups})
            if averages is not None:
                averages.restore(checkpoint.part("trained"), state.step)
            rng.set_state(checkpoint.part("rng"))
        except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise RunError(f"{origin} does not hold a training state that fits this run") from error
        return state


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """What is in a mapping or a list, however deep, by its place: "0.Q.1" is entry 1 of the list "Q" of "0"."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}")
    elif isinstance(value, (list, tuple)) and len(value):
        for k, inner in enumerate(value):
            yield from _flat(inner, f"{name}.{k}")
    else:
        yield name, value


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """What `_flat` took apart, by its first names.

    Raises:
        ValueError: Something is in two places, or a list has a gap.
    """
    parts: dict[str, dict[str, Any]] = {}
    whole: dict[str, Any] = {}
    for name, value in flat.items():
        first, _, rest = name.partition(".")
        if rest:
            parts.setdefault(first, {})[rest] = value
        else:
            whole[first] = value
    if parts.keys() & whole.keys():
        raise ValueError("a number in the place of a list")
    for first, inside in parts.items():
        inner = _nested(inside)
        if all(key.isdecimal() for key in inner):
            if sorted(map(int, inner)) != list(range(len(inner))):
                raise ValueError("a list with a gap")
            whole[first] = [inner[str(k)] for k in range(len(inner))]
        else:
            whole[first] = inner
    return whole


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
