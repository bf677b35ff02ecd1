"""What a dataset is: a config dataclass that loads three splits, and, for a toy target, its exact density."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass as plain_dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Literal, TypeAlias

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from ..compute.memory import check_room
from ..config.fields import MOST, STRICT, Role, setting
from ..config.schema import DatasetSettings
from ..errors import ConfigError
from .mapped import Mapped
from .pieces import coordinates, total

__all__ = [
    "AnyDataset",
    "Box",
    "Data",
    "DatasetConfig",
    "Target",
    "flat",
    "log_normal",
    "normal",
    "square",
    "uniform",
    "within",
]

#: Points that stand for a training set without end, where one has to be looked at.
FRESH = 10_000
#: ((x₁ low, x₁ high), (x₂ low, x₂ high))
Box: TypeAlias = tuple[tuple[float, float], tuple[float, float]]


@plain_dataclass(frozen=True)
class Data:
    """Three splits of events, each (N, *shape), and the density they came from when it is known.

    They are float32; or float64, where single precision can't tell them apart, for a model that standardises them; or
    uint8, grey levels of images that a model sees with noise (`grey_levels.dequantize`); or bool, pixels that are 0 or
    1. A split may be mapped from a file that is larger than memory: go through it in pieces (`pieces`).
    """

    train: Tensor
    valid: Tensor
    test: Tensor
    target: Target | None = None
    columns: tuple[str, ...] = ()  # the names of the coordinates, where they have any
    levels: int | None = None  # of images: a pixel is one of 0 … levels − 1
    fingerprint: str | None = None  # of the user's file that they come from (`files.fingerprint`)
    fresh: bool = False  # training draws new ones from `target` for every batch; `train` says what these are like
    mapped: Mapped | None = None  # where the rows of `train` are, if they are mapped from a file

    @property
    def binary(self) -> bool:
        """Whether a pixel is 0 or 1 and stays that, so that a model gives it a probability, and no density."""
        return self.train.dtype == torch.bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one event."""
        return tuple(self.train.shape[1:])

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each coordinate (each channel of an image) of the training data, float64."""
        count = self.train.numel() // self.train.shape[1]
        mean = total(piece.sum(1) for piece in coordinates(self.train)) / count
        squares = total((piece - mean[:, None]).square().sum(1) for piece in coordinates(self.train))
        return mean, (squares / count).sqrt()

    def covariance(self) -> Tensor:
        """Covariance of the coordinates of the training data, (D, D), float64, for events of shape (D,)."""
        mean = self.moments[0][:, None]
        return total((x - mean) @ (x - mean).T for x in coordinates(self.train)) / len(self.train)

    def some_test(self, most: int) -> Tensor:
        """At most so many of the test data, spread over the set, as a file may be sorted."""
        return self.test[:: -(-len(self.test) // most)]

    def column(self, k: int) -> str:
        """What to call coordinate (channel) k in a message."""
        if self.columns:
            return f"column '{self.columns[k]}'"
        return f"{'column' if len(self.shape) == 1 else 'channel'} {k + 1} of {self.shape[0]}"


@dataclass(config=STRICT)
class AnyDataset(DatasetSettings, ABC):
    """Settings of one dataset, and how it is loaded."""

    @abstractmethod
    def load(self) -> Data:
        """Read or draw the three splits.

        Raises:
            ConfigError: That can't be done; the sentence says why.
        """

    def fetch(self) -> None:
        """Download what `load` reads.

        Raises:
            ConfigError: The dataset has nothing to download.
        """
        raise ConfigError(f"dataset '{self.name}' has nothing to download: cifrun train dataset={self.name} will do")


@dataclass(config=STRICT)
class DatasetConfig(AnyDataset):
    """A dataset of points, which the model may standardise first."""

    standardize: bool | Literal["auto", "whiten"] = setting(
        True,
        "the model first brings each coordinate to mean 0 and standard deviation 1: true, false, auto (only if a scale "
        "is far from that), or whiten (and takes out their correlations)",
        role=Role.TRAINED,
    )


@dataclass(config=STRICT)
class Target(DatasetConfig):
    """A distribution on the plane that can be sampled and whose density is known exactly.

    Subclasses write `sample` and `log_prob`, set `window`, `support` where it is bounded, and `names` and `component`
    if it is in several pieces.
    """

    num_train: Annotated[int, Field(ge=1, le=MOST)] | Literal["fresh"] = setting(
        10_000, "training points; fresh: new ones for every batch, without end", role=Role.TRAINED
    )
    num_valid: int = setting(1_000, "validation points", ge=1, role=Role.TRAINED)
    num_test: int = setting(5_000, "test points", ge=1, role=Role.TRAINED)
    seed: int = setting(
        0, "seed of the draws, by default that of the run", role=Role.REPETITION, follows="seed", ge=0, lt=2**32
    )

    #: What to call the pieces of equal mass that the distribution is made of; empty if it is in one piece.
    names: ClassVar[tuple[str, ...]] = ()
    #: Multiplies the nodes of a numerical integral; closed forms ignore it. What it changes is the error of `log_prob`.
    resolution: ClassVar[int] = 1

    def load(self) -> Data:
        fresh = self.num_train == "fresh"
        sizes = (FRESH if self.num_train == "fresh" else self.num_train, self.num_valid, self.num_test)
        count = sum(sizes)
        check_room(2 * count, f"{count:,} points of {self.name}", bytes_each=8)
        train, valid, test = (
            self.sample(n, torch.Generator().manual_seed(4 * self.seed + k)).float() for k, n in enumerate(sizes)
        )
        return Data(train, valid, test, target=self, fresh=fresh)

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n independent points, (n, 2), float64; the same generator state gives the same points."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log-density at x (batch, 2) in nats, (batch,), float64; -inf outside a bounded support."""

    @property
    @abstractmethod
    def window(self) -> Box:
        """A box to draw that holds all but 1e-6 of the mass."""

    @property
    def support(self) -> Box | None:
        """The smallest box around the support, with infinite sides where it has no bound; None for the whole plane."""
        return None

    @property
    def components(self) -> dict[str, float]:
        """The pieces, by name, each with its mass."""
        return dict.fromkeys(self.names, 1 / max(1, len(self.names)))

    def component(self, x: Tensor) -> Tensor:
        """The place in `components` of the piece that each x (batch, 2) is in, or −1 for none of them, (batch,)."""
        return torch.full((len(x),), -1, device=x.device)

    @property
    def max_log_prob(self) -> float:
        """The largest log-density found on a fine grid over the window, for colour scales."""
        sides = (torch.linspace(low, high, 201, dtype=torch.float64) for low, high in self.window)
        value = self.log_prob(torch.cartesian_prod(*sides)).max().item()
        return value if math.isfinite(value) else 0.0


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Independent draws from [0, 1), float64."""
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Independent standard normal draws, float64."""
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def log_normal(x: Tensor, std: float = 1.0) -> Tensor:
    """log N(x; 0, std²), elementwise."""
    return -0.5 * (x / std) ** 2 - math.log(std) - 0.5 * math.log(2 * math.pi)


def within(x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Whether low ≤ x ≤ high, elementwise, up to the rounding of a float32.

    Splits are float32: without the margin, a point drawn just inside an edge may be rounded across it, to density 0.
    """
    low, high = (torch.as_tensor(edge, dtype=x.dtype, device=x.device) for edge in (low, high))
    eps = torch.finfo(torch.float32).eps
    return (x >= low - eps * low.abs()) & (x <= high + eps * high.abs())


def flat(inside: Tensor, log_density: float) -> Tensor:
    """A uniform log-density, float64: `log_density` inside, -inf outside."""
    return torch.full(inside.shape, -math.inf, dtype=torch.float64, device=inside.device).masked_fill(
        inside, log_density
    )


def square(half: float) -> Box:
    """[-half, half]²."""
    return (-half, half), (-half, half)
