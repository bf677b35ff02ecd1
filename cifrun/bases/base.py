"""What a base density is in a config, settings that make one for events of a shape; and what mixtures share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from ..cif.base_density import BaseDensity
from ..config.fields import STRICT
from ..config.schema import BaseSettings

__all__ = ["BaseConfig", "Mixture"]


@dataclass(config=STRICT)
class BaseConfig(BaseSettings, ABC):
    """Settings of one kind of p_0, and how it is made.

    A subclass adds its settings and `build`, and has the decorator `registered(BASES, NAME)`.
    """

    @abstractmethod
    def build(self, shape: Sequence[int]) -> BaseDensity:
        """p_0 for z_0 of `shape`.

        Raises:
            ConfigError: It can't model such events.
        """


class Mixture(BaseDensity):
    """A mixture that is fitted once, before training. Its draws choose a component, which has no derivative.

    Arguments:
        shape: Shape of z_0.
        components: How many there may be.
    """

    reparametrised = False
    count: Tensor

    def __init__(self, shape: Sequence[int], components: int) -> None:
        super().__init__(shape)
        self.most = components
        self.register_buffer("count", torch.tensor(0))  # how many are used; 0 before it is fitted
        self._used: int | None = None

    @property
    def used(self) -> int:
        """How many components have been fitted, K; the first of those there is room for."""
        if self._used is None:  # reading it waits for the device
            self._used = min(max(1, int(self.count)), self.most)
        return self._used

    @used.setter
    def used(self, count: int) -> None:
        self.count.fill_(count)
        self._used = None

    @property
    def wants_data(self) -> bool:
        return not self.fitted

    @property
    def fitted(self) -> bool:
        return bool(self.count > 0)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._used = None
