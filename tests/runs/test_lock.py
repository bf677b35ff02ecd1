"""One writer a run directory: whoever comes second is told, and a process that ends, however, leaves the lock free."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cifrun.errors import RunError
from cifrun.runs.directory import RunDirectory
from cifrun.runs.lock import LOCK, Busy, alone, busy
from tests.forks import Forked
from tests.helpers import small_config


def hold(directory: Path, ready: Path) -> None:
    """Hold the lock until the process is killed."""
    with alone(directory):
        ready.touch()
        signal.pause()


@contextmanager
def held(directory: Path, ready: Path) -> Iterator[Forked]:
    process = Forked(hold, directory, ready)
    try:
        while not ready.exists():
            assert process.exitcode is None
            time.sleep(0.01)
        yield process
    finally:
        process.kill()


def test_the_second_process_gets_a_sentence_until_the_first_is_dead(tmp_path, monkeypatch):
    monkeypatch.setattr("cifrun.runs.lock.PATIENCE", 0.0)
    run = tmp_path / "run"
    with held(run, tmp_path / "ready") as process:
        assert busy(run) is True
        with pytest.raises(Busy, match=f"another process is at work in {run}"), alone(run):
            raise AssertionError("two at once")
        process.kill()
    assert busy(run) is False
    with alone(run):
        (run / "file").touch()


def test_whoever_is_alone_may_enter_again_and_stays_alone(tmp_path):
    with alone(tmp_path):
        with alone(tmp_path):
            assert busy(tmp_path) is True
        assert busy(tmp_path) is True, "the inner one has given the lock away"
        (tmp_path / "file").touch()
    assert busy(tmp_path) is False


def test_a_place_where_nothing_was_done_is_as_it_was(tmp_path):
    with alone(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / LOCK).exists()
    assert not list(tmp_path.iterdir())
    (tmp_path / "a").mkdir()
    with pytest.raises(ZeroDivisionError), alone(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert [entry.name for entry in tmp_path.rglob("*")] == ["a"], "what was there before stays"


def test_of_a_run_without_a_lock_nothing_is_said(tmp_path):
    assert busy(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_a_lock_that_leads_elsewhere_is_not_followed(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match="is a symbolic link, which is not followed"), alone(tmp_path / "run"):
        pass
    assert not (tmp_path / "outside").exists()


def test_what_killed_writers_left_is_gone_when_a_run_goes_on(tmp_path):
    run, small = RunDirectory(tmp_path), small_config("realnvp", True)
    run.create(small)
    left = [tmp_path / ".summary.json.abc.tmp", tmp_path / "checkpoints" / ".latest.safetensors.1.tmp"]
    left += [tmp_path / "figures" / ".density.png.2.tmp"]
    for file in left:
        file.touch()
    mine = tmp_path / "notes.tmp"
    mine.touch()
    run.create(small)
    assert not any(file.exists() for file in left) and mine.exists()
    assert os.listdir(tmp_path / "figures") == []
