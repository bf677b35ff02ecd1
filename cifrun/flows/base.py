"""What a flow is: a config dataclass that builds a flat list of bijections, counted from the data inward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from pydantic.dataclasses import dataclass

from ..bijections.base import Bijection
from ..bijections.linear import LULinear
from ..bijections.norm import ActNorm, BatchNorm
from ..bijections.permutation import Flip, Permutation
from ..config.fields import STRICT
from ..config.schema import Activation, FlowSettings, Norm
from ..errors import ConfigError

__all__ = ["NORMS", "Activation", "FlowConfig", "Norm", "flipped", "mixed", "with_norm"]

#: What makes the normalisation of each name, for a shape.
NORMS: dict[Norm, list[Callable[[Sequence[int]], Bijection]]] = {
    "none": [],
    "actnorm": [ActNorm],
    "batchnorm": [BatchNorm],
}


@dataclass(config=STRICT)
class FlowConfig(FlowSettings, ABC):
    """Settings of one family, and how its steps are made.

    A subclass adds its settings and `build`, and has the decorator `registered(FLOWS, NAME)`.
    """

    #: Whether without an index nothing is left to learn, so that there is no plain flow to compare with.
    needs_index: ClassVar[bool] = False
    #: Whether events are images (channels, height, width); else they are flattened first.
    images: ClassVar[bool] = False
    #: Whether events are pixels that are 0 or 1, which have a probability, and no density.
    binary: ClassVar[bool] = False

    #: The choice that its YAML makes in another group, as an entry of Hydra's defaults list; none if empty.
    chooses: ClassVar[str] = ""

    @abstractmethod
    def build(self, shape: Sequence[int]) -> list[Bijection]:
        """The steps f_L⁻¹, …, f_1⁻¹ in the order in which x meets them; each one that is `indexable` may get a u_l.

        Raises:
            ConfigError: The family can't model events of `shape`.
        """

    def flat(self, shape: Sequence[int], minimum: int = 1) -> tuple[int]:
        """`(D,)` if an event is a vector of at least `minimum` numbers, for families that model nothing else.

        Raises:
            ConfigError: Events have another shape.
        """
        name = self.family or type(self).__name__
        if len(shape) != 1:
            raise ConfigError(f"flow '{name}' models vectors, but an event of this dataset has shape {tuple(shape)}")
        if shape[0] < minimum:
            why = ": a coupling transforms one half of the coordinates given the other" if minimum > 1 else ""
            raise ConfigError(f"flow '{name}' needs at least {minimum} dimensions, but was given {shape[0]}{why}")
        return (shape[0],)


def with_norm(steps: Sequence[Bijection], norm: Norm) -> list[Bijection]:
    """`steps` with a normalisation after each one that is indexable; `steps` themselves for "none"."""
    result: list[Bijection] = []
    for step in steps:
        result.append(step)
        if step.indexable:
            result += [make(step.latent_shape) for make in NORMS[norm]]
    return result


def flipped(steps: Sequence[Bijection]) -> list[Bijection]:
    """`steps` with the order of coordinates reversed before each one that is indexable, but the first."""
    result: list[Bijection] = []
    for step in steps:
        if result and step.indexable:
            result.append(Flip(step.shape))
        result.append(step)
    return result


def mixed(steps: Sequence[Bijection], linear: bool) -> list[Bijection]:
    """`steps` with coordinates permuted at random before each one that is indexable, and after the last.

    A learned matrix follows each permutation if `linear`.
    """
    shape = steps[-1].latent_shape
    mix = [Permutation, LULinear] if linear else [Permutation]
    result: list[Bijection] = []
    for step in steps:
        if step.indexable:
            result += [kind(shape) for kind in mix]
        result.append(step)
    return result + [kind(shape) for kind in mix]
