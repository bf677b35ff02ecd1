"""What a base density is in a config: settings that make one for events of a shape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from pydantic.dataclasses import dataclass

from ..cif.base_density import BaseDensity
from ..config.fields import STRICT
from ..config.schema import BaseSettings

__all__ = ["BaseConfig"]


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
