"""What a flow is: a config dataclass that builds a flat list of bijections, counted from the data inward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from pydantic.dataclasses import dataclass

from ..bijections.base import Bijection
from ..config import STRICT, setting

__all__ = ["FlowConfig"]


@dataclass(config=STRICT)
class FlowConfig(ABC):
    """Settings of one family, and how its steps are made.

    A subclass adds its settings and `build`, and registers itself:

        @FLOWS.register("maf")
        @dataclass(config=STRICT)
        class MAF(FlowConfig):
            ...
    """

    family: str = setting("", "name of the family; the group choice sets it")
    depth: int = setting(1, "number of steps L", ge=1)

    @abstractmethod
    def build(self, shape: Sequence[int]) -> list[Bijection]:
        """The steps f_L⁻¹, …, f_1⁻¹ in the order in which x meets them; each one that is `indexable` may get a u_l.

        Raises `ConfigError` when the family can't model events of `shape`.
        """
