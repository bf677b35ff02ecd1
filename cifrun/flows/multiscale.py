"""What the flows of images share: steps at several resolutions, with channels that are factored out on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..bijections.base import Bijection
from ..bijections.multiscale import Partial, Squeeze
from ..bijections.permutation import Flatten
from ..errors import ConfigError


class MultiScale:
    """Stacks the steps of a flow of images from the data inward.

    `shape` is the part of the event that is still worked on; what `factor_out` took from it stays behind it in the
    same tensor (`bijections.multiscale`).

    Arguments:
        shape: (C, H, W) of an event.
        scales: At how many resolutions the flow works, each half the one before.
        family: What to call the flow in a message.

    Raises:
        ConfigError: events that are no images, or whose sides can't be halved so often.
    """

    def __init__(self, shape: Sequence[int], scales: int, family: str) -> None:
        if len(shape) != 3:
            raise ConfigError(f"flow '{family}' models images, but an event of this dataset has shape {tuple(shape)}")
        possible = 1
        while all(side % 2**possible == 0 for side in shape[1:]):
            possible += 1
        if scales > possible:
            size = "×".join(map(str, shape[1:]))
            raise ConfigError(
                f"flow '{family}' can't have {scales} scales: images of {size} can be halved {possible - 1} times, "
                f"which is flow.scales={possible}"
            )
        self.steps: list[Bijection] = []
        self.shape = tuple(shape)
        self._size = shape[0]  # of the whole event's first dimension

    def add(self, *makers: Callable[[Sequence[int]], Bijection]) -> None:
        """A step for each of `makers`, which are given the shape of the active part."""
        for make in makers:
            step = make(self.shape)
            self.steps.append(step if self._size == self.shape[0] else Partial(step, self._size))

    def squeeze(self) -> None:
        """Go on at half the resolution, with four times as many channels."""
        channels, height, width = self.shape
        self.steps.append(Squeeze((self._size, height, width)))
        self.shape, self._size = (4 * channels, height // 2, width // 2), 4 * self._size

    def factor_out(self) -> None:
        """From here on leave half of the channels alone."""
        self.shape = (self.shape[0] // 2, *self.shape[1:])

    def flatten(self) -> None:
        """Go on with vectors."""
        channels, height, width = self.shape
        self.steps.append(Flatten((self._size, height, width)))
        self.shape, self._size = (channels * height * width,), self._size * height * width
