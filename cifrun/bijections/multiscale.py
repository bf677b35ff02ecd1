"""Multi-scale architectures as plain bijections of one event: squeeze, and maps of the leading channels.

    squeeze     (C, H, W) → (4C, H/2, W/2)        a pixel's 2×2 neighbours become channels
    factor out  z = (z_a, z_b) ↦ (f(z_a), z_b)    z_b met its last map: later steps carry it along

A multi-scale flow sends half of the channels to the prior at each scale, and works on with the other half. Here the
event stays one tensor: what is factored out are its last channels, which every later step leaves alone (`Partial`) and
which a squeeze or a flattening keeps last. So each step is a bijection of the whole event, the prior N(0, I) of the
whole of z_0 is what the factored parts are given too, and the log-determinant of a step is that of its own part.

Source: Dinh, Sohl-Dickstein, Bengio, "Density estimation using Real NVP", ICLR 2017, sections 3.6 and 3.7.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Bijection

__all__ = ["Partial", "Squeeze"]


class Squeeze(Bijection):
    """(C, H, W) → (4C, H/2, W/2): channel 4c + 2i + j of z is every other pixel of channel c of x, from (i, j) on.

    The first k channels become the first 4k.

    Raises:
        ValueError: an odd height or width.
    """

    indexable = False

    def __init__(self, shape: Sequence[int]) -> None:
        channels, height, width = shape
        if height % 2 or width % 2:
            raise ValueError(f"an image of shape {tuple(shape)} can't be squeezed: its height or width is odd")
        super().__init__(shape, (4 * channels, height // 2, width // 2))

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return F.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def _inverse(self, z: Tensor) -> Tensor:
        return F.pixel_shuffle(z, 2)

    def describe(self) -> str:
        return f"Squeeze to {self.latent_shape}"


class Partial(Bijection):
    """A bijection of the first entries of the event's first dimension; the others pass unchanged.

    An index after it looks at, and acts on, that part alone.

    Arguments:
        bijection: The map of the part; its shape and latent shape are the same.
        size: Entries of the event's first dimension, at least those of the part.
    """

    def __init__(self, bijection: Bijection, size: int) -> None:
        super().__init__((size, *bijection.shape[1:]))
        self.bijection = bijection
        self.active_shape = bijection.shape
        self.indexable = bijection.indexable
        self.exact_log_det, self.exact_in_training = bijection.exact_log_det, bijection.exact_in_training
        self.compilable = bijection.compilable

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        part, rest = self._split(x)
        z, log_det = self.bijection(part)
        return torch.cat([z, rest], 1), log_det

    def _inverse(self, z: Tensor) -> Tensor:
        part, rest = self._split(z)
        return torch.cat([self.bijection.inverse(part), rest], 1)

    @property
    def lipschitz_ceiling(self) -> float | None:
        ceiling = self.bijection.lipschitz_ceiling
        return None if ceiling is None else max(1.0, ceiling)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, : self.active_shape[0]], x[:, self.active_shape[0] :]

    def describe(self) -> str:
        return f"{self.bijection.describe()} of the first {self.active_shape[0]}"
