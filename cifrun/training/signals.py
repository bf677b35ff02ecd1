"""Signals that ask training to stop: it saves first, and then whoever handled the signal before is told of it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..compute.slurm import STOPS, hand_on


@contextmanager
def stop_requests(at_once: bool = False) -> Iterator[Callable[[], bool]]:
    """Inside, a first signal only asks for a stop after the present step; a second Ctrl-C stops at once.

    Arguments:
        at_once: The first one stops at once too, as `KeyboardInterrupt`, whichever signal it is.

    What handled the signal before, as the queue of a cluster does, is told of it when all is saved. Gives a function
    that says whether a stop was asked for.
    """
    requested: signal.Signals | None = None

    def ask(number: int, _: object) -> None:
        nonlocal requested
        requested = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if at_once:
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        for number in before:
            signal.signal(number, ask)
    except ValueError:  # not the main thread: whoever owns the process handles its signals
        yield lambda: False
        return
    try:
        yield lambda: requested is not None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if requested is not None:
            hand_on(requested, before[requested])
