"""Seconds of training, and seconds a step without the time that evaluation and pictures take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Counts the time of a run.

    Arguments:
        spent: Seconds that the run took before it was stopped and continued.
    """

    def __init__(self, spent: float) -> None:
        self._start = time.monotonic() - spent
        self._since, self._steps = time.monotonic(), 0

    def tick(self) -> None:
        """A step is done."""
        self._steps += 1

    def step_seconds(self) -> float:
        """Seconds a step, as a mean since the last call."""
        now = time.monotonic()
        mean = (now - self._since) / max(1, self._steps)
        self._since, self._steps = now, 0
        return mean

    def total(self) -> float:
        """Seconds of the run so far."""
        return round(time.monotonic() - self._start, 3)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, the time does not count for `step_seconds`."""
        before = time.monotonic()
        try:
            yield
        finally:
            self._since += time.monotonic() - before
