"""Training data on their way to the model: which rows, in which order, from where, to which device.

    rows = loader.indices(step)         which rows a batch holds, (batch,)
    sent = loader.fetch(rows)           what of them has to travel, on its way to the device; nobody waits for it
    x    = loader.events(sent)          the events on the device, (batch, *shape), with noise if they are grey levels

If the data are few, the device holds all of them, and only the numbers of the rows travel. Otherwise the rows are read
where they are, in memory or in a file, and travel themselves; or they are drawn anew for each batch. A share of a batch
is fetched as a batch is.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ..compute.memory import check_room
from ..config.schema import TrainerConfig
from .base import Data
from .grey_levels import dequantize
from .order.batches import Batches
from .order.fresh import Fresh

#: Bytes of training data that are put on the device as a whole.
RESIDENT = 2**31
#: Bytes of training data up to which `trainer.shuffle=auto` shuffles all rows at once.
IN_MEMORY = 2**33
#: Bytes that are read together, and how many blocks of them are shuffled together: 256 MiB.
BLOCK, WINDOW = 2**16, 2**12


class Loader:
    """The training data of `data`, in batches.

    Arguments:
        data: Its training split, (N, *shape), in memory or mapped from a file.
        trainer: Says how large a batch is, and what is shuffled.
        seed: Of the order.
        device: Where the events are needed.

    Raises:
        ConfigError: A batch of new draws has no room.
    """

    def __init__(self, data: Data, trainer: TrainerConfig, seed: int, device: torch.device) -> None:
        x = data.train
        self._x: Tensor | Fresh = x
        self.batches: Batches | Fresh
        self._device = device
        if data.fresh and data.target is not None:
            self._resident = None
            check_room(trainer.batch_size * x[:1].numel(), f"trainer.batch_size = {trainer.batch_size} new data a step")
            self._x = self.batches = Fresh(data.target.sample, trainer.batch_size, data.target.seed)
            return
        self._resident = x.to(device) if x.nbytes <= RESIDENT else None
        large = x.nbytes > IN_MEMORY
        in_blocks = trainer.shuffle == "blocks" or (trainer.shuffle == "auto" and large)
        block = max(1, BLOCK * len(x) // x.nbytes) if in_blocks else None
        prefetch = None
        if data.mapped is not None and (large or in_blocks):
            data.mapped.at_random()
            prefetch = None if block is None else partial(data.mapped.will_need, rows=block)
        self.batches = Batches(len(x), trainer.batch_size, seed, block, WINDOW, prefetch)

    @classmethod
    def of_tensor(cls, x: Tensor, device: torch.device) -> Loader:
        """A loader of the rows of x (N, *shape); what is a batch is up to who asks for `rows`."""
        return cls(Data(x, x[:0], x[:0]), TrainerConfig(batch_size=len(x)), 0, device)

    def indices(self, step: int) -> Tensor:
        """Which rows the `step`-th batch (from 0) holds, (batch,), on the CPU."""
        return self.batches.indices(step)

    def fetch(self, rows: Tensor) -> Tensor:
        """What `events` needs of these rows (batch,), on its way to the device: one entry for each, (batch, …)."""
        needed = rows if self._resident is not None else self._x[rows]
        if self._device.type != "cuda":
            return needed.to(self._device)
        return needed.pin_memory().to(self._device, non_blocking=True)  # else the copy waits for what the GPU is doing

    def events(self, fetched: Tensor) -> Tensor:
        """The events, (batch, *shape), on the device, that `fetch` was asked for."""
        return dequantize(fetched if self._resident is None else self._resident[fetched])
