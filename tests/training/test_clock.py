"""Time that a run and its steps take, by a clock that a test moves by hand."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifrun.training import clock
from cifrun.training.clock import Clock


class Hand:
    """What stands in for the system's clock."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


EVENTS = st.lists(st.tuples(st.sampled_from(["step", "pause", "tell"]), st.integers(0, 64)), max_size=30)


@given(EVENTS, st.integers(0, 500))
def test_steps_have_the_time_between_pauses_and_the_run_has_all_of_it(
    events: list[tuple[str, int]], spent: int
) -> None:
    """Durations are multiples of 1/8, so that nothing is rounded."""
    hand = Hand()
    with patch.object(clock, "time", SimpleNamespace(monotonic=hand.monotonic)):
        timer, steps, busy, whole = Clock(spent), 0, 0.0, float(spent)
        for kind, eighths in [*events, ("tell", 0)]:
            duration = eighths / 8
            whole += duration
            if kind == "pause":
                with timer.paused():
                    hand.now += duration
                continue
            hand.now += duration
            busy += duration
            if kind == "step":
                timer.tick()
                steps += 1
            else:
                assert timer.step_seconds() == busy / max(1, steps)
                steps, busy = 0, 0.0
            assert timer.total() == whole


def test_the_time_of_a_run_is_told_in_milliseconds() -> None:
    hand = Hand()
    with patch.object(clock, "time", SimpleNamespace(monotonic=hand.monotonic)):
        timer = Clock(0.25)
        hand.now += 1.00049
        assert timer.total() == pytest.approx(1.25, abs=1e-12)
