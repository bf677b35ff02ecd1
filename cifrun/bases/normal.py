"""The standard normal, N(0, I)."""

from __future__ import annotations

from collections.abc import Sequence

from ..cif.base_density import BaseDensity, StandardNormal
from ..config.fields import registered
from ..registry import BASES
from .base import BaseConfig


@registered(BASES, "normal")
class Normal(BaseConfig):
    """Standard normal, N(0, I): one piece without holes."""

    def build(self, shape: Sequence[int]) -> BaseDensity:
        return StandardNormal(shape)
