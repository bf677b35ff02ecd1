"""p_0, the density that z_0 has: what a model's steps start from on the way to the data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .gaussian import standard_normal

__all__ = ["BaseDensity", "StandardNormal"]


class BaseDensity(nn.Module, ABC):
    """A density over z_0, an event of one shape.

    Arguments:
        shape: Shape of z_0.
    """

    #: Whether `draw` can be differentiated in the density's weights, or it has none.
    reparametrised = True

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log p_0(z) of each row of z (batch, *shape), in nats, (batch,)."""

    @abstractmethod
    def draw(self, n: int, like: Tensor) -> Tensor:
        """n independent draws of z_0, (n, *shape), of the precision and on the device of `like`."""

    def describe(self) -> str:
        """A few words, for a reader."""
        return type(self).__name__

    @property
    def wants_data(self) -> bool:
        """Whether `fit` is still to be called before training."""
        return False

    @property
    def fitted(self) -> bool:
        """Whether it has been fitted to data, so that a model may be good before its first step."""
        return False

    def fit(self, train: Tensor, valid: Tensor, seed: int) -> None:
        """Learn from what the untrained flow makes of the data, once, before training.

        Arguments:
            train, valid: z_0 of training and validation data, (N, *shape).
            seed: Of what is drawn.
        """


class StandardNormal(BaseDensity):
    """N(0, I)."""

    def log_prob(self, z: Tensor) -> Tensor:
        return standard_normal(z)

    def draw(self, n: int, like: Tensor) -> Tensor:
        return torch.randn((n, *self.shape), dtype=like.dtype, device=like.device)
