"""Before training: p_0 is fitted to what the untrained model makes of the data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..cif.model import Model
from ..compute.rng import forked
from ..config.schema import Config
from ..data.base import Data
from ..data.grey_levels import dequantize

__all__ = ["fit_base"]

#: Data of each split that are looked at, at most; and numbers in them.
LOOKED_AT, NUMBERS = 20_000, 4_000_000
#: Numbers in the data that pass the model at once, at most.
AT_ONCE = 2_000_000


def fit_base(model: Model, data: Data, config: Config) -> None:
    """Fit p_0 to z_0 of the data, if it wants that and has not seen any; the model is on the CPU.

    What a step learns from the first batch (`norm=actnorm`) it learns from these data. The random state stays as it is.

    Raises:
        ConfigError: A library that it needs is not installed.
    """
    if not model.base.wants_data:
        return
    training = model.training
    model.train()  # as the first step of training will find it
    with torch.no_grad(), forked(config.seed):
        train, valid = (_latent(model, split) for split in (data.train, data.valid))
    model.train(training)
    model.base.fit(train, valid, config.seed)


def _latent(model: Model, split: Tensor) -> Tensor:
    """z_0 of some of a split, spread over it, with u ~ q."""
    model.prepare()
    size = math.prod(model.shape)
    most = max(1, min(LOOKED_AT, NUMBERS // size))
    rows, found = split[:: max(1, -(-len(split) // most))], list[Tensor]()
    for part in rows.split(max(1, AT_ONCE // size)):
        z = dequantize(part).to(model.takes)
        for moved in model.inward(z):
            z = moved.z
        found.append(z)
    return torch.cat(found)
