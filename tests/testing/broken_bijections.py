"""A bijection that keeps all promises, and others that break one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cifrun.bijections.base import Bijection


class Stretch(Bijection):
    """z = exp(a) ⊙ x, with a learned."""

    def __init__(self, shape: tuple[int, ...] = (2,)) -> None:
        super().__init__(shape)
        self.log_scale = nn.Parameter(torch.zeros(shape))

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * self.log_scale.exp(), self.log_scale.sum().expand(len(x))

    def _inverse(self, z: Tensor) -> Tensor:
        return z * (-self.log_scale).exp()


class ColumnOfLogDets(Stretch):
    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super()._forward(x)
        return z, log_det[:, None]


class AlwaysSingle(Stretch):
    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super()._forward(x)
        return z.float(), log_det


class NoInverse(Stretch):
    def _inverse(self, z: Tensor) -> Tensor:
        return super()._inverse(z) / 0


class WrongLogDet(Stretch):
    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super()._forward(x)
        return z, 2 * log_det


class WrongInverse(Stretch):
    def _inverse(self, z: Tensor) -> Tensor:
        return 1.01 * super()._inverse(z)


class Cancels(Stretch):
    """Single precision loses what is behind the point of a million."""

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super()._forward(x)
        return (z + 1e6) - 1e6, log_det


class Idle(Stretch):
    def __init__(self, shape: tuple[int, ...] = (2,)) -> None:
        super().__init__(shape)
        self.idle = nn.Parameter(torch.zeros(2))


class InfiniteSlope(Stretch):
    """√|0 · b| has the slope 0 · ∞."""

    def __init__(self, shape: tuple[int, ...] = (2,)) -> None:
        super().__init__(shape)
        self.root = nn.Parameter(torch.zeros(shape))

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super()._forward(x)
        return z + (0 * self.root).sqrt(), log_det


class ConstantLogDet(Stretch):
    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super()._forward(x)
        return z, log_det.detach()


class DetachedInverse(Stretch):
    def _inverse(self, z: Tensor) -> Tensor:
        return super()._inverse(z.detach())


class HalfDetached(Stretch):
    def _inverse(self, z: Tensor) -> Tensor:
        return z * (-self.log_scale.detach()).exp()


class Unchecked(Stretch):
    """What of a wrong shape comes in, breaks inside."""

    def _check(self, value: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(value.shape[1:]) != shape:
            raise RuntimeError("size mismatch")


class TakesAll(Stretch):
    def _check(self, value: Tensor, shape: tuple[int, ...]) -> None: ...


class SaysLittle(Stretch):
    def _check(self, value: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(value.shape[1:]) != shape:
            raise ValueError("no")


class Mixes(Stretch):
    """Half of the batch's mean is taken off, and put on again."""

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super()._forward(x - 0.5 * x.mean(0) if len(x) else x)

    def _inverse(self, z: Tensor) -> Tensor:
        x = super()._inverse(z)
        return x + x.mean(0) if len(x) else x


class MixesLogDets(Stretch):
    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super()._forward(x)
        return z, log_det + (x.detach().mean() if len(x) else 0)


class NeverEmpty(Stretch):
    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super()._forward(x)
        return z, log_det if len(x) else x.new_zeros(1)


class Unsaved(Stretch):
    """What it draws is not in its state."""

    def __init__(self, shape: tuple[int, ...] = (2,)) -> None:
        super().__init__(shape)
        self.offset = float(torch.rand(()))

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super()._forward(x)
        return z + self.offset, log_det

    def _inverse(self, z: Tensor) -> Tensor:
        return super()._inverse(z - self.offset)


class Unpicklable(Stretch):
    def __init__(self, shape: tuple[int, ...] = (2,)) -> None:
        super().__init__(shape)
        self.act: Any = lambda x: x


class TwoLines(Stretch):
    def describe(self) -> str:
        return "one\ntwo"


class Nameless(Stretch):
    def describe(self) -> str:
        return ""


class OtherInTraining(Stretch):
    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super()._forward(x)
        return (1.5 * z if self.training else z), log_det


class Waits(Stretch):
    """Decides on a number of the device how to go on."""

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and x.sum() > 1e6:
            x = x + 1
        return super()._forward(x)


class Heavy(Stretch):
    """Its state holds what is no weight."""

    def __init__(self, shape: tuple[int, ...] = (2,)) -> None:
        super().__init__(shape)
        self.register_buffer("table", torch.zeros(10_000))
