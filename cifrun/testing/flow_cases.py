"""The small models on which flows are checked: plain and indexed, for vectors and for images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..build import build_steps
from ..cif.model import Model
from ..config.fields import settings
from ..config.schema import Config, check
from ..errors import ConfigError
from ..flows.base import FlowConfig
from ..registry import FLOWS
from .promises import spread_out

__all__ = ["LARGER", "SHAPES", "Family", "FlowCase", "Shape"]

#: Settings that make a flow small enough to build hundreds of; each is used where a flow has a field of that name, and
#: one that is null by default stays so.
SMALL: dict[str, Any] = {
    "depth": 2,
    "hidden": [16, 16],
    "width": 6,
    "layers": 2,
    "degree": 2,
    "tolerance": 1e-9,
    "eval_tolerance": 1e-9,
    "scales": 2,
    "dense": 1,
    "dense_hidden": [8],
    "norm": "none",
}
#: Spread of the parameters around their initial values; enough to leave every special point.
SPREAD = 0.1

Shape = tuple[int, ...]
#: Where flows of vectors and of images are checked; and where those that are defined at none of these.
SHAPES: dict[bool, list[Shape]] = {False: [(1,), (2,), (5,)], True: [(1, 4, 4), (3, 4, 4)]}
LARGER: dict[bool, list[Shape]] = {False: [(3,), (4,), (8,), (16,)], True: [(1, 8, 8), (3, 8, 8), (1, 16, 16)]}
#: What a flow may refuse, with a sentence.
ODD: list[Shape] = [(2, 3, 4), (0,)]


@dataclass(frozen=True)
class Family:
    """A registered flow and settings that override the small ones."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"flow '{self.name}'"

    @property
    def cls(self) -> type[FlowConfig]:
        """The dataclass that is registered.

        Raises:
            ConfigError: There is no such flow.
        """
        return FLOWS[self.name]

    def values(self) -> dict[str, Any]:
        """The settings, as a config holds them."""
        defaults = {setting.name: setting.default for setting in settings(self.cls)}
        small = {name: value for name, value in SMALL.items() if defaults.get(name) is not None}
        return {"family": self.name, **small, **self.settings}

    def flow(self) -> FlowConfig:
        """The settings as an object.

        Raises:
            ConfigError: A value is not allowed.
        """
        return check(self.cls, self.values(), "flow")

    def shapes(self) -> list[Shape]:
        """Where it is defined."""
        flow = self.flow()
        here = [shape for shape in SHAPES[flow.images] if _builds(flow, shape)]
        return here or [shape for shape in LARGER[flow.images] if _builds(flow, shape)][:1]

    def cases(self) -> list[FlowCase]:
        """In each shape, plain and indexed; what is made of its index, only indexed."""
        plain = [] if self.cls.needs_index else [False]
        return [FlowCase(self, shape, indexed) for shape in self.shapes() for indexed in (*plain, True)]


def _builds(flow: FlowConfig, shape: Shape) -> bool:
    try:
        flow.build(shape)
    except ConfigError:
        return False
    return True


@dataclass(frozen=True)
class FlowCase:
    """A flow, plain or indexed, for events of one shape."""

    family: Family
    shape: Shape
    indexed: bool

    def __str__(self) -> str:
        kind = "indexed" if self.indexed else "plain"
        return f"{self.family}, {kind}, for events of shape {self.shape}"

    @property
    def id(self) -> str:
        """As a test may call it: "maf-2-indexed"."""
        return f"{self.family.name}-{'x'.join(map(str, self.shape))}-{'indexed' if self.indexed else 'plain'}"

    def build(self, seed: int = 3, **overrides: Any) -> Model:
        """A small model with fresh parameters, in evaluation mode, in double precision."""
        config = Config.parse(
            {
                "dataset": {"name": "file"},
                "flow": {**self.family.values(), **overrides},
                "cif": self.indexed,
                "index": {"dim": 2, "st": [8], "p": [8], "q": [8]},
            }
        )
        torch.manual_seed(seed)
        return Model(build_steps(config, self.shape)).double().eval()

    def model(self) -> Model:
        """One with parameters away from their initial values."""
        return spread_out(self.build(), SPREAD, seed=4)

    def batch(self, size: int = 5, shape: Shape | None = None) -> Tensor:
        """Events, or vectors of another shape; zeros and ones for a flow that models such."""
        generator = torch.Generator().manual_seed(5)
        x = 1.2 * torch.randn(size, *(shape or self.shape), dtype=torch.float64, generator=generator)
        return (x > 0).to(x) if self.family.cls.binary else x
