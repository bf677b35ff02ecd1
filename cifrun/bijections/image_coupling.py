"""Affine couplings of images: one half of the numbers is scaled and shifted given the other half.

    z_a = x_a,    z_b = (x_b + t(x_a)) ⊙ exp(s(x_a)),        log|det ∂z/∂x| = Σ s(x_a)

Checkerboard: a and b are the pixels (i, j) with i + j even and odd. Channels: a and b are halves of the channels. s and
t come from one convolutional network; |s| ≤ 2 (`univariate.Affine`).

Source: Dinh, Sohl-Dickstein, Bengio, "Density estimation using Real NVP", ICLR 2017, section 3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .base import Bijection
from .univariate import Affine

__all__ = ["ChannelCoupling", "CheckerboardCoupling"]

#: Makes the network of s and t for given numbers of channels of its input and output.
NetFactory = Callable[[int, int], nn.Module]

AFFINE = Affine(bound=2.0)


class CheckerboardCoupling(Bijection):
    """z = m ⊙ x + (1 − m) ⊙ (x + t(m ⊙ x)) exp(s(m ⊙ x)) with a checkerboard m of ones and zeros.

    Arguments:
        shape: (C, H, W).
        net: Makes the network; it is given the C masked channels and the mask as one more.
        parity: 0 conditions on the pixels whose i + j is even, 1 on the odd ones; alternate it from step to step.
    """

    mask: Tensor

    def __init__(self, shape: Sequence[int], net: NetFactory, parity: int = 0) -> None:
        super().__init__(shape)
        channels, height, width = self.shape
        self.net = net(channels + 1, 2 * channels)
        rows, columns = torch.arange(height)[:, None], torch.arange(width)
        mask = ((rows + columns + parity) % 2 == 0)[None]
        self.register_buffer("mask", mask, persistent=False)
        self.parity = parity % 2

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_slope = AFFINE.forward(x, self._h(x))
        log_det = log_slope.masked_fill(self.mask, 0).flatten(1).sum(1)
        return torch.where(self.mask, x, z), log_det

    def _inverse(self, z: Tensor) -> Tensor:
        return torch.where(self.mask, z, AFFINE.inverse(z, self._h(z)))

    def _h(self, x: Tensor) -> Tensor:
        """(s, t) for every number, from those that the mask shows: (batch, C, H, W, 2)."""
        mask = self.mask.to(x.dtype)
        return _parameters(self.net, torch.cat([x * mask, mask.expand(len(x), -1, -1, -1)], 1), x)

    def describe(self) -> str:
        return f"Checkerboard coupling given {'odd' if self.parity else 'even'} pixels"


class ChannelCoupling(Bijection):
    """z_b = (x_b + t(x_a)) exp(s(x_a)) for one half b of the channels, given the other half a.

    Arguments:
        shape: (C, H, W), C ≥ 2.
        net: Makes the network.
        parity: 0 conditions on the first half of the channels, 1 on the second; alternate it from step to step.
    """

    def __init__(self, shape: Sequence[int], net: NetFactory, parity: int = 0) -> None:
        super().__init__(shape)
        self.sizes = [self.shape[0] // 2, self.shape[0] - self.shape[0] // 2]
        self.parity = parity % 2
        seen, changed = self.sizes[self.parity], self.sizes[1 - self.parity]
        self.net = net(seen, 2 * changed)

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self._halves(x)
        z, log_slope = AFFINE.forward(b, _parameters(self.net, a, b))
        return self._whole(a, z), log_slope.flatten(1).sum(1)

    def _inverse(self, z: Tensor) -> Tensor:
        a, b = self._halves(z)
        return self._whole(a, AFFINE.inverse(b, _parameters(self.net, a, b)))

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.split(self.sizes, 1)
        return (second, first) if self.parity else (first, second)

    def _whole(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([b, a] if self.parity else [a, b], 1)

    def describe(self) -> str:
        return f"Channel coupling given the {'second' if self.parity else 'first'} half"


def _parameters(net: nn.Module, given: Tensor, x: Tensor) -> Tensor:
    """(s, t) for each number of x, in x's precision: (batch, C, H, W, 2)."""
    return net(given).to(x.dtype).unflatten(1, (2, x.shape[1])).movedim(1, -1)
