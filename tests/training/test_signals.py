"""A signal asks for a stop, and whoever handled it before is told when all is saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from threading import Thread

import pytest

from cifrun.compute.slurm import STOPS
from cifrun.errors import RunError
from cifrun.training.signals import stop_requests


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What happened, in order; all signals that stop a run are handled by writing their names down."""
    events: list[str] = []
    before = {number: signal.getsignal(number) for number in STOPS}
    for number in STOPS:
        signal.signal(number, lambda number, _: events.append(signal.Signals(number).name))
    yield events
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_is_a_request_until_all_is_saved_and_then_it_is_handed_on(
    number: signal.Signals, told: list[str]
) -> None:
    handlers = [signal.getsignal(each) for each in STOPS]
    with stop_requests() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
        told.append("saved")
    assert told == ["saved", number.name]
    assert [signal.getsignal(each) for each in STOPS] == handlers


def test_without_a_signal_nobody_is_told(told: list[str]) -> None:
    handlers = [signal.getsignal(each) for each in STOPS]
    with pytest.raises(ZeroDivisionError), stop_requests() as stop:
        assert not stop()
        raise ZeroDivisionError
    assert told == [] and [signal.getsignal(each) for each in STOPS] == handlers


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_stops_at_once(first: signal.Signals, told: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt), stop_requests():
        signal.raise_signal(first)
        signal.raise_signal(signal.SIGINT)
        told.append("not reached")
    assert told == [first.name]


def test_of_two_requests_the_last_one_is_handed_on(told: list[str]) -> None:
    """As when a cluster first says that the time is up, and then ends the job."""
    with stop_requests() as stop:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)
        assert stop()
    assert told == ["SIGTERM"]


def test_a_queue_that_refuses_is_told_in_its_own_words(told: list[str]) -> None:
    def refuse(number: int, _: object) -> None:
        raise OSError("the queue is closed")

    signal.signal(signal.SIGUSR1, refuse)
    with pytest.raises(RunError, match=r"^the queue is closed$"), stop_requests():
        signal.raise_signal(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is refuse


def test_outside_the_main_thread_signals_stay_with_their_owner(told: list[str]) -> None:
    handlers, seen = [signal.getsignal(each) for each in STOPS], []

    def work() -> None:
        with stop_requests() as stop:
            seen.append([signal.getsignal(each) for each in STOPS])
            seen.append(stop())

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [handlers, False]
