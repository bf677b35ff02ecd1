"""Where training stands: all that the next step depends on, to and from one checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from ..compute import rng
from ..config.schema import TrainerConfig
from ..data.order.permutation import permutation
from ..data.tables.in_place import Events
from ..data.tables.paging import at_random, soon
from ..errors import RunError
from ..runs.directory import Checkpoint

__all__ = ["Batches", "TrainingState"]

#: Bytes of training data up to which `trainer.shuffle=auto` shuffles all rows at once.
IN_MEMORY = 2**33
#: Bytes that are read together, and how many blocks of them are shuffled together: 256 MiB.
BLOCK, WINDOW = 2**16, 2**12
#: The places of an epoch's two orders, of its blocks and inside a window of them, among what its key seeds.
BLOCKS, INSIDE = 1, 2


@dataclass
class TrainingState:
    """Counters of the training loop.

    Attributes:
        shape: Shape of one event, so that the model can be rebuilt without its data.
        standardized: Whether the model's first step standardises them, or "whiten", "logit", "centre"; its numbers are
            saved with the weights.
        columns: Names of an event's coordinates; empty where they have none.
        levels: Of images, the number of values of a pixel.
        fingerprint: Of the user's file that the data come from.
        step: Steps done.
        skipped: Steps whose loss or gradient was not finite, and which changed nothing.
        bad_steps: How many of the last steps in a row were skipped.
        best_valid: Best validation log-likelihood so far, nats.
        bad_validations: Validations since then.
        wall_seconds: Time spent training.
    """

    shape: list[int] = field(default_factory=list)
    standardized: bool | str = False
    columns: list[str] = field(default_factory=list)
    levels: int | None = None
    fingerprint: str | None = None
    step: int = 0
    skipped: int = 0
    bad_steps: int = 0
    best_valid: float | None = None
    bad_validations: int = 0
    wall_seconds: float = 0.0

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
    def restore(
        cls, checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer, origin: str
    ) -> TrainingState:
        """Put weights, optimiser and generators back; return the counters. Raises `RunError` for another model's."""
        checkpoint.load_model(model, origin)
        try:
            packed: dict[int, dict[str, Any]] = {}
            entries = {**checkpoint.part("optimizer"), **checkpoint.state["optimizer_numbers"]}
            for key, value in entries.items():
                index, _, name = key.partition(".")
                packed.setdefault(int(index), {})[name] = value
            optimizer.load_state_dict({"state": packed, "param_groups": checkpoint.state["param_groups"]})
            rng.set_state(checkpoint.part("rng"))
            unknown: dict[str, Any] = {"columns": [], "levels": None, "fingerprint": None}  # to earlier versions
            state = {**unknown, **checkpoint.state}
            return cls(**{f.name: state[f.name] for f in fields(cls)})
        except (KeyError, ValueError, TypeError) as error:
            raise RunError(f"{origin} does not hold a training state that fits this run") from error


class Batches:
    """The order of the data, as a function of the seed and the step alone: to go on, nothing has to be replayed.

    The data are shuffled anew each epoch, and the epochs laid end to end and cut into batches of one size; so every
    datum comes up once an epoch, and no batch is short. Up to `permutation.LARGE` data, the order of an epoch is drawn
    as a whole; beyond, it is a keyed permutation, which takes no memory.

    With `block`, an epoch reads the data in passages: it draws `window` blocks of neighbours from all over them,
    shuffles what these hold, and goes on with the next. What memory has to hold is a window. In exchange, neighbours
    meet more often than by chance, which matters where they are alike, as in a sorted file: the mean over a batch of m
    has at most 1 + (m − 1) / window times the variance that m independent draws give it, and all batches of a window
    see the same blocks.

    Arguments:
        count: Size of the training set.
        batch_size: Data a batch; at most `count` are taken.
        seed: Of the shuffles.
        block: Neighbours that are read together; None to shuffle all data at once.
        window: Blocks that are shuffled together, if there are any.
        prefetch: Told where the blocks of a window begin, (blocks,), before it is asked for.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        block: int | None = None,
        window: int = 1,
        prefetch: Callable[[Tensor], None] | None = None,
    ) -> None:
        self.count = count
        self.size = min(batch_size, count)
        self.seed = seed
        self.block = None if block is None else min(block, count)
        self.window = window
        self._prefetch = prefetch
        self._prefetched = -1
        self._order, self._block_order = (lru_cache(maxsize=1)(permutation) for _ in range(2))

    @classmethod
    def of(cls, x: Events, trainer: TrainerConfig, seed: int) -> Batches:
        """The batches of the training data x, (N, *shape), as `trainer` wants them."""
        large = x.nbytes > IN_MEMORY
        if trainer.shuffle == "rows" or (trainer.shuffle == "auto" and not large):
            if large:
                at_random(x)
            return cls(len(x), trainer.batch_size, seed)
        block = max(1, BLOCK * len(x) // x.nbytes)
        at_random(x)
        return cls(len(x), trainer.batch_size, seed, block, WINDOW, partial(soon, x, rows=block))

    def indices(self, step: int) -> Tensor:
        """Which data the `step`-th batch (from 0) holds, (size,)."""
        position, end = step * self.size, (step + 1) * self.size
        parts: list[Tensor] = []
        while position < end:
            epoch, offset = divmod(position, self.count)
            # Odd multiplier: distinct (seed, epoch) pairs get distinct streams.
            key = (self.seed * 0x9E3779B1 + epoch) % 2**63
            places = torch.arange(offset, min(offset + end - position, self.count))
            parts.append(
                self._order(self.count, key)(places) if self.block is None else self._in_blocks(places, key, self.block)
            )
            position += len(places)
        return torch.cat(parts)

    def _in_blocks(self, places: Tensor, key: int, size: int) -> Tensor:
        """What is at these neighbouring places of an epoch, in blocks of `size`; a remainder stays last."""
        window, whole = size * self.window, self.count // size
        first, end = int(places[0]), int(places[-1]) + 1

        def blocks(slots: Tensor) -> Tensor:
            return self._block_order(whole, rng.derive(key, BLOCKS))(slots.clamp(max=whole - 1)).where(
                slots < whole, slots
            )

        shuffled = []
        for start in range(first // window * window, end, window):
            inside, number = min(window, self.count - start), rng.derive(key, INSIDE, start)
            if self._prefetch is not None and number != self._prefetched:
                self._prefetched = number
                self._prefetch(size * blocks(torch.arange(start // size, -(-(start + inside) // size))))
            part = places[max(0, start - first) : start + window - first]
            shuffled.append(start + self._order(inside, number)(part - start))
        places = torch.cat(shuffled)
        return size * blocks(places // size) + places % size
