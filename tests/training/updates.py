"""What the tests of updates share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor

from cifrun.cif.model import Model
from cifrun.config.schema import Config
from cifrun.data.loader import Loader
from cifrun.training.step import Outcome, Update


class UpdateOn(Update):
    """An update that is given events, at most 400, instead of the numbers of rows: these are written to its data."""

    def __init__(self, model: Model, config: Config, fabric: Fabric, shape: Sequence[int] = (2,)) -> None:
        self.data = torch.zeros(400, *shape, device=fabric.device)
        super().__init__(model, config, fabric, Loader.of_tensor(self.data, fabric.device))

    def __call__(self, x: Tensor, lr: float) -> Outcome:
        self.data[: len(x)].copy_(x)
        return super().__call__(torch.arange(len(x)), lr)
