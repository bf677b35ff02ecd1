"""What a dataset is: a config dataclass that loads three splits, and, for a toy target, its exact density."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass as plain_dataclass
from functools import cached_property
from typing import ClassVar, Literal, TypeAlias

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from ..compute.rng import for_rows
from ..config.schema import STRICT, setting
from ..errors import ConfigError
from .tables.in_place import Events, Rows

__all__ = [
    "AnyDataset",
    "Box",
    "Data",
    "DatasetConfig",
    "Target",
    "dequantize",
    "flat",
    "log_normal",
    "normal",
    "quantize",
    "square",
    "uniform",
    "within",
]

#: ((x₁ low, x₁ high), (x₂ low, x₂ high))
Box: TypeAlias = tuple[tuple[float, float], tuple[float, float]]


#: Numbers that a pass over the data holds at once in double precision: data may be larger than memory.
AT_ONCE = 2**18


@plain_dataclass(frozen=True)
class Data:
    """Three splits of events, each (N, *shape), and the density they came from when it is known.

    They are float32; or uint8, grey levels of images that a model sees with noise (`dequantize`); or bool, pixels that
    are 0 or 1. A split may be a window on a file that is larger than memory: read it in pieces. Of a large npy file it
    is no tensor but `Rows`, whose pieces are tensors: x[start:stop], x[indices].
    """

    train: Events
    valid: Events
    test: Events
    target: Target | None = None
    columns: tuple[str, ...] = ()  # the names of the coordinates, where they have any
    levels: int | None = None  # of images: a pixel is one of 0 … levels − 1
    fingerprint: str | None = None  # of the user's file that they come from (`files.fingerprint`)

    @property
    def binary(self) -> bool:
        """Whether a pixel is 0 or 1 and stays that, so that a model gives it a probability, and no density."""
        return self.train.dtype == torch.bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one event."""
        return tuple(self.train.shape[1:])

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each coordinate (each channel of an image) of the training data, float64."""
        return self._moments

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        count = len(self.train) * math.prod(self.shape[1:])
        mean = _total(x.sum(1) for x in _coordinates(self.train)) / count
        squares = _total((x - mean[:, None]).square().sum(1) for x in _coordinates(self.train))
        return mean, (squares / count).sqrt()

    def covariance(self) -> Tensor:
        """Covariance of the coordinates of the training data, (D, D), float64, for events of shape (D,)."""
        mean = self.moments()[0][:, None]
        return _total((x - mean) @ (x - mean).T for x in _coordinates(self.train)) / len(self.train)

    def check(self, name: str) -> Data:
        """These data, if a density can be learned from them.

        Raises `ConfigError` for a split that is empty or not finite, for fewer than two training points, and for a
        coordinate that is constant, equal to another, or that single precision can't tell from a constant.
        """
        for split, x in (("training", self.train), ("validation", self.valid), ("test", self.test)):
            least = 2 if split == "training" else 1
            if len(x) < least:
                count = f"{len(x)} {split} point{'s' if len(x) != 1 else ''}"
                raise ConfigError(f"dataset '{name}' has {count}: it needs at least {least}")
            if tuple(x.shape[1:]) != self.shape or x.ndim < 2 or 0 in x.shape:
                raise ConfigError(
                    f"dataset '{name}' holds {split} events of shape {tuple(x.shape[1:])}, and training events of "
                    f"shape {self.shape}: both should be the same, with at least one number"
                )
            if not x.is_floating_point() or isinstance(x, Rows):  # of these, each number was looked at
                continue
            bad = _total((~values.isfinite()).sum(1) for values in _values(x))
            if bool(bad.any()):
                k = int(bad.nonzero()[0])
                raise ConfigError(
                    f"dataset '{name}': {self.column(k)} of the {split} data holds {int(bad[k])} values "
                    f"that are not finite: remove them or fill them in"
                )
        precision = torch.finfo(torch.float32)
        means, stds = (m.tolist() for m in self.moments())
        first = self.train[:1].transpose(0, 1).flatten(1)[:, :1]
        differ = _total((x != first).sum(1) for x in _values(self.train))
        for k, (mean, std) in enumerate(zip(means, stds, strict=True)):
            column = f"dataset '{name}': {self.column(k)}"
            if differ[k] == 0:
                raise ConfigError(f"{column} is constant in the training data, and so has no density: leave it out")
            if std < 8 * precision.eps * abs(mean):
                raise ConfigError(
                    f"{column} varies by {std:.1e} around {mean:.6g}, less than single precision can tell: "
                    f"subtract its mean"
                )
            if not precision.tiny < std < precision.max**0.5:
                raise ConfigError(f"{column} has a standard deviation of {std:.1e}: change its unit")
            for j in range(k):
                alike = math.isclose(std, stds[j], rel_tol=1e-6)
                if alike and all(torch.equal(piece[:, k], piece[:, j]) for piece in _pieces(self.train)):
                    raise ConfigError(f"{column} is equal to {self.column(j)}, so no density holds both: leave one out")
        return self

    def column(self, k: int) -> str:
        """What to call coordinate (channel) k in a message."""
        if self.columns:
            return f"column '{self.columns[k]}'"
        return f"{'column' if len(self.shape) == 1 else 'channel'} {k + 1} of {self.shape[0]}"


def dequantize(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """What a model is given for stored events x: grey levels n become n + ε with ε ~ U[0, 1)^D, float32.

    For a density p, E log p(n + ε) ≤ log P(n) with P(n) = ∫_{[0,1)^D} p(n + ε) dε: so the mean log-density in nats is a
    lower bound of the log-probability of the integers, and −log p / (D log 2) bits a dimension need no other constant.
    (Theis, van den Oord, Bethge, "A note on the evaluation of generative models", ICLR 2016.)

    Arguments:
        x: (N, *shape); what is no uint8 gets no noise, and draws no random number.
        generator: On the CPU; without one, the global generator of x's device draws.
    """
    if x.dtype != torch.uint8:
        return x if x.is_floating_point() else x.float()
    device = x.device if generator is None else "cpu"
    noise = for_rows(lambda size: torch.rand(size, generator=generator, device=device), x.shape)
    # Ends 2⁻¹⁶ before 1, or rounding to float32 would make n + 1 of some n + ε.
    return x + noise.mul_(1 - 2**-16).to(x.device)


def quantize(x: Tensor, levels: int) -> Tensor:
    """The grey levels of a model's samples x: ⌊x⌋, within 0 … levels − 1, uint8; the inverse of `dequantize`."""
    return x.nan_to_num(0.0).floor().clamp(0, levels - 1).to(torch.uint8)


def _pieces(x: Events) -> Iterator[Tensor]:
    """The events x in pieces of at most about `AT_ONCE` numbers; of a tensor, as views."""
    size = max(1, AT_ONCE // max(1, math.prod(x.shape[1:])))
    return (x[start : start + size] for start in range(0, len(x), size))


def _total(parts: Iterable[Tensor]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for part in parts:  # not kept: small tensors between large ones would pin the memory of each
        total = total + part
    return total


def _values(x: Events) -> Iterator[Tensor]:
    """Pieces of x, each (coordinates or channels, values)."""
    return (piece.transpose(0, 1).flatten(1) for piece in _pieces(x))


def _coordinates(x: Events) -> Iterator[Tensor]:
    """The same in float64."""
    return (values.double() for values in _values(x))


@dataclass(config=STRICT)
class AnyDataset(ABC):
    """Settings of one dataset, and how it is loaded."""

    name: str = setting("", "name of the dataset; the group choice sets it")

    @abstractmethod
    def load(self) -> Data:
        """Read or draw the three splits. Raises `ConfigError` with a sentence when that can't be done."""

    def fetch(self) -> None:
        """Download what `load` reads. Raises `ConfigError` for a dataset that has nothing to download."""
        raise ConfigError(f"dataset '{self.name}' has nothing to download: cifrun train dataset={self.name} will do")


@dataclass(config=STRICT)
class DatasetConfig(AnyDataset):
    """A dataset of points, which the model may standardise first."""

    standardize: bool | Literal["auto", "whiten"] = setting(
        "auto",
        "bring each coordinate to mean 0 and standard deviation 1 inside the model; auto: if far from that; "
        "whiten: and take out what the coordinates have in common",
    )


@dataclass(config=STRICT)
class Target(DatasetConfig):
    """A distribution on the plane that can be sampled and whose density is known exactly.

    Subclasses write `sample` and `log_prob`, set `window`, and `support` where it is bounded.
    """

    num_train: int = setting(10_000, "training points", ge=1)
    num_valid: int = setting(1_000, "validation points", ge=1)
    num_test: int = setting(5_000, "test points", ge=1)
    seed: int = setting(0, "seed of the draws; the three splits are independent", ge=0, lt=2**32)

    #: Multiplies the nodes of a numerical integral; closed forms ignore it. What it changes is the error of `log_prob`.
    resolution: ClassVar[int] = 1

    def load(self) -> Data:
        train, valid, test = (
            self.sample(n, torch.Generator().manual_seed(4 * self.seed + k)).float()
            for k, n in enumerate((self.num_train, self.num_valid, self.num_test))
        )
        return Data(train, valid, test, target=self)

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
        """The pieces that the distribution is made of, by name, each with its mass; empty if it is in one piece."""
        return {}

    def component(self, x: Tensor) -> Tensor:
        """The place in `components` of the piece that each x (batch, 2) is in, or −1 for none of them, (batch,)."""
        return torch.full((len(x),), -1, device=x.device)

    @property
    def max_log_prob(self) -> float:
        """The largest log-density found on a fine grid over the window, for colour scales."""
        (a, b), (c, d) = self.window
        axis0, axis1 = (torch.linspace(lo, hi, 201, dtype=torch.float64) for lo, hi in ((a, b), (c, d)))
        grid = torch.cartesian_prod(axis0, axis1)
        value = self.log_prob(grid).max().item()
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
