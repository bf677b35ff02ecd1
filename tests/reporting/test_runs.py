"""A run as a report sees it, by what its files say and when they were written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cifrun.errors import ConfigError
from cifrun.reporting import runs
from cifrun.reporting.runs import Run, find_runs, number

from .example_runs import write

NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("status", "test", "completed", "settled"),
    [
        ("completed", {"log_likelihood": -1.5}, True, True),
        ("stopped_early", {"log_likelihood": -1}, True, True),
        ("completed", {"log_likelihood": None}, False, True),
        ("completed", None, False, True),
        ("failed", {"log_likelihood": -1.5}, False, True),
        ("running", {"log_likelihood": -1.5}, False, False),
        ("interrupted", None, False, False),
        (None, None, False, False),
    ],
)
def test_a_run_is_complete_with_a_result_and_settled_when_nothing_more_will_come(
    status: str | None, test: Any, completed: bool, settled: bool
) -> None:
    summary = {key: value for key, value in (("status", status), ("test", test)) if value is not None}
    run = Run(Path("run"), {}, summary)
    assert (run.status, run.completed, run.settled) == (status or "begun", completed, settled)
    assert run.test == (test or {})


def test_a_likelihood_is_called_by_how_it_was_computed() -> None:
    for settings, test, name in (
        ({"cif": True}, {"exact": False, "importance_samples": 20}, "IWAE_20"),
        ({"cif": True}, {"exact": False}, "IWAE_?"),
        ({"cif": False}, {"exact": True, "importance_samples": 1}, "exact"),
        ({"cif": False}, {"exact": False, "importance_samples": 1}, "unbiased"),
    ):
        assert Run(Path("run"), settings, {"test": test}).estimate == name


@pytest.mark.parametrize(
    ("age", "ago"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (200, "3 min"), (5399, "90 min"), (5400, "2 h"), (100 * 3600, "100 h")],
)
def test_progress_tells_the_last_step_and_how_long_ago_something_was_written(
    age: int, ago: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "run", status="running")
    os.utime(path / "metrics.jsonl", (NOW - age, NOW - age))
    os.utime(path / "summary.json", (NOW - age - 10_000, NOW - age - 10_000))
    monkeypatch.setattr(runs, "time", SimpleNamespace(time=lambda: NOW))
    assert Run.read(path).progress() == f"running, or killed, step 40 of 100, last wrote {ago} ago"


def test_runs_are_found_once_and_in_order_and_one_that_cant_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b/2", "b/10", "a"):
        write(tmp_path / name)
    (tmp_path / "c").mkdir()
    (tmp_path / "c/config.yaml").write_text("dataset: [")
    write(tmp_path / "d")
    (tmp_path / "d/summary.json").write_text(json.dumps({"steps": -1}))
    for directories in ([tmp_path], [tmp_path, tmp_path / "b", tmp_path / "b/../b"]):
        found, unreadable = find_runs(directories)
        assert [run.path.relative_to(tmp_path).as_posix() for run in found] == ["a", "b/10", "b/2"]
        assert len(unreadable) == 2
        assert f"{tmp_path / 'c/config.yaml'} can't be read" in unreadable[0] and "'steps' is -1" in unreadable[1]
    monkeypatch.chdir(tmp_path)
    found, _ = find_runs([Path("b"), Path("a"), Path(".")])
    assert [run.path.as_posix() for run in found] == ["b/10", "b/2", "a"], "named as they were asked for"
    with pytest.raises(ConfigError, match=r"^there is no directory nowhere$"):
        find_runs([Path("nowhere")])


def test_reading_a_run_writes_nothing_and_a_run_without_a_summary_has_begun(tmp_path: Path) -> None:
    path = write(tmp_path / "run", seed=3, dataset={"name": "two_uniforms", "seed": 8})
    for name in ("summary.json", "metrics.jsonl"):
        (path / name).unlink()
    before = sorted(path.rglob("*"))
    run = Run.read(path)
    assert (run.seed, run.status, run.metrics) == (3, "begun", [])
    assert run.repetition == (("dataset.seed", "8"), ("seed", "3"))
    assert run.progress() == "begun, step 0 of 100"
    assert sorted(path.rglob("*")) == before


@pytest.mark.parametrize("value", [None, "1.5", float("nan"), float("inf"), [1.0]])
def test_what_is_no_finite_number_is_none(value: Any) -> None:
    assert number(value) is None
    assert number(-3) == -3.0 and isinstance(number(-3), float)


def test_a_run_that_is_named_in_two_ways_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "runs" / "one")
    monkeypatch.chdir(tmp_path)
    runs, _ = find_runs([Path("runs"), tmp_path / "runs", Path("runs/../runs")])
    assert [run.path for run in runs] == [Path("runs/one")]
