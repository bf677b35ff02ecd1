"""A run's records survive kills and continuations, and both tell the same."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest

from cifrun.errors import RunError
from cifrun.runs.records import METRICS, Tracker, read_metrics

from .events import events, hparams, points, steps


def test_scalars_reach_both_records(tmp_path: Path) -> None:
    before = time.time()
    with Tracker(tmp_path / "new" / "run") as tracker:
        tracker.scalars(10, {"train/loss": 1.25, "train/lr": 1e-3})
        # Readable while the run goes on.
        (row,) = read_metrics(tmp_path / "new" / "run" / METRICS)
    assert row.keys() == {"step", "time", "train/loss", "train/lr"}
    assert (row["step"], row["train/loss"]) == (10, 1.25)
    assert before - 1 < row["time"] < time.time() + 1
    assert points(tmp_path / "new" / "run", "train/loss") == [(10, 1.25)]


def test_every_file_lies_at_the_root(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.scalars(1, {"train/loss": 1.0})
        tracker.hparams({"cif": True}, {"test/log_likelihood": -1.5})
    assert all(path.is_file() for path in tmp_path.iterdir())
    assert {path.name.partition(".out")[0] for path in tmp_path.iterdir()} == {METRICS, "events"}


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.scalars(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.5})

    def refuse(name: str) -> None:
        pytest.fail(f"{name} is not JSON")

    row = json.loads((tmp_path / METRICS).read_text(), parse_constant=refuse)
    assert [row[k] for k in "abcd"] == [None, None, None, 0.5]


def test_tracker_adds_to_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.summary.writer import event_file_writer  # type: ignore[import-untyped]

    # The counter at the end of a file's name gains a digit, which puts 10 before 8 and 9 in the order of names.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(8))
    for step in (1, 2, 3):
        with Tracker(tmp_path) as tracker:
            tracker.scalars(step, {"a": 0.0})
    assert [row["step"] for row in read_metrics(tmp_path / METRICS)] == [1, 2, 3]
    assert steps(tmp_path, "a") == [1, 2, 3]


@pytest.mark.parametrize("resume_from", [None, 5])
def test_half_a_line_is_dropped(tmp_path: Path, resume_from: int | None) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.scalars(5, {"a": 1.0})
    with open(tmp_path / METRICS, "ab") as stream:
        stream.write(b'{"step": 6, "a": 0.\xff')
    with Tracker(tmp_path, resume_from=resume_from) as tracker:
        tracker.scalars(7, {"a": 2.0})
    lines = (tmp_path / METRICS).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [5, 7]


def test_continuing_forgets_later_steps(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.text("config", "seed: 1")
    tracker.hparams({"seed": 1}, {})
    for step in range(10, 60, 10):
        tracker.scalars(step, {"a": 1.0})
    tracker._writer.flush()  # and then it is killed: no close
    with Tracker(tmp_path, resume_from=20) as continued:
        continued.scalars(30, {"a": 2.0})
    tracker.close()
    assert [(row["step"], row["a"]) for row in read_metrics(tmp_path / METRICS)] == [(10, 1.0), (20, 1.0), (30, 2.0)]
    assert points(tmp_path, "a") == [(10, 1.0), (20, 1.0), (30, 2.0)]
    assert "config/text_summary" in events(tmp_path).Tags()["tensors"]
    assert hparams(tmp_path, "session_start_info").hparams["seed"].number_value == 1


def test_half_an_event_does_no_harm(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.scalars(1, {"a": 1.0})
        tracker.scalars(2, {"a": 1.0})
    (file,) = tmp_path.glob("events.*")
    file.write_bytes(file.read_bytes()[:-7])
    with Tracker(tmp_path, resume_from=1) as tracker:
        tracker.scalars(2, {"a": 2.0})
    assert steps(tmp_path, "a") == [1, 2]


def test_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file can't be written"):
        Tracker(tmp_path / "file")


def test_a_second_close_changes_nothing(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.scalars(1, {"a": 1.0})
    tracker.close()
    closed = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    tracker.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == closed
    assert [row["a"] for row in read_metrics(tmp_path / METRICS)] == [1.0]
