"""Progress suits where it is printed: a bar on a terminal, a line now and then in a file."""

from __future__ import annotations

import io
import os
from contextlib import suppress

import pytest

from cifrun.runs.progress import Progress


def test_progress_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("cifrun.runs.progress.time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    progress = Progress(1000, stream=stream)
    for step in range(1, 1001):
        clock[0] += 0.025
        progress.update(step, loss=1.234)
        if step == 200:
            progress.update(step, valid=-1.69)
    progress.close()
    progress.close()
    assert stream.getvalue().splitlines() == [
        "step 0/1000",
        "step 400/1000  loss 1.234  valid -1.690  15.0 s left",
        "step 800/1000  loss 1.234  valid -1.690  5.0 s left",
        "step 1000/1000  loss 1.234  valid -1.690  took 25.0 s",
    ]


def test_progress_of_a_continued_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("cifrun.runs.progress.time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    with Progress(100_000, initial=90_000, stream=stream) as progress:
        clock[0] = 100.0
        progress.update(90_100)
    assert stream.getvalue().splitlines() == ["step 90000/100000", "step 90100/100000  2 h 45 min left"]


@pytest.mark.parametrize("sized", [False, True])
def test_progress_on_a_terminal(sized: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    leader, follower = pty.openpty()
    if sized:
        termios.tcsetwinsize(follower, (40, 100)) if hasattr(termios, "tcsetwinsize") else pytest.skip("Python 3.10")
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setattr(Progress, "BAR_SECONDS", 1000.0)  # however slow the machine, the bar is not due again
        with Progress(50) as progress:
            for step in range(1, 51):
                progress.update(step, loss=1.5)
            progress.update(50, valid=-1.25)
    shown = b""
    with suppress(OSError):  # what Linux says at the end
        while part := os.read(leader, 65536):
            shown += part
    os.close(leader)
    shown = shown.decode()
    assert "50/50" in shown
    assert "loss 1.500  valid -1.250" in shown
    assert shown.count("\r") < 20  # redrawn now and then, not at every step


def test_progress_disabled_is_silent() -> None:
    stream = io.StringIO()
    with Progress(10, enabled=False, stream=stream) as progress:
        progress.update(5, loss=1.0)
    assert stream.getvalue() == ""
