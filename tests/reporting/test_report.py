"""`cifrun report`, from run directories to its files."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from cifrun.cli.main import main
from cifrun.config.schema import Config
from cifrun.reporting import report as reporting
from cifrun.reporting.runs import LONG
from cifrun.runs.lock import LOCK, alone
from cifrun.training.loop import train

from .example_runs import read, write, write_pairs


def test_the_four_files(tmp_path: Path) -> None:
    runs = write_pairs(tmp_path)
    write(runs / "deep", flow={"family": "resflow", "depth": 4}, likelihood=-1.44)
    report = read(runs)
    written = {path.suffix: path.read_text() for path in report.write(runs / "report")}
    rows = list(csv.DictReader(io.StringIO(written[".csv"])))
    assert [row["cif"] for row in rows] == ["false", "true", "true"]
    for row, group in zip(rows, report.groups, strict=True):
        assert float(row["log_likelihood"]) == group.cells["log_likelihood"].mean
        assert int(row["seeds"]) == len(group.runs)
    assert written[".md"].count("\n| two_uniforms") == 2 * 3 and "**−1.44" in written[".md"]  # of fit and of cost
    assert r"two\_uniforms" in written[".tex"] and r"$\mathbf{-1.440 \pm 0.010}$" in written[".tex"]
    assert written[".html"].startswith("<!DOCTYPE html>") and '<td class="r best">−1.44' in written[".html"]
    # Its own output is no run, and reading again finds the same.
    assert len(read(runs).groups) == 3


@pytest.mark.usefixtures("without_pictures")
def test_from_training_to_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2):
        config = Config.parse(
            {
                "dataset": {"name": "two_uniforms", "num_train": 100, "num_valid": 50, "num_test": 50},
                "flow": {"family": "affine", "depth": 1},
                "seed": seed,
                "trainer": {"max_steps": 3, "batch_size": 50, "progress": False, "valid_every": 1},
                "eval": {"importance_samples": 2},
            }
        )
        train(config, tmp_path / f"seed{seed}")
    capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"two_uniforms +CIF of affine +2 .*IWAE_2", out)
    assert (tmp_path / "report/report.html").is_file()
    assert main(["report", str(tmp_path), f"output={tmp_path / 'elsewhere'}", "--watch"]) == 0
    assert (tmp_path / "elsewhere/report.csv").is_file()


@pytest.mark.parametrize(
    "value",
    [
        "0x" + "f" * 5000,
        "0b" + "1" * 20_000,
        "1:" * 20_000 + "1",
        "[{1: a, b: c}]",
        "[{[1, 2]: a}]",
        "2020-01-01",
        "!!set {a}",
    ],
    ids=lambda value: value[:20],
)
@pytest.mark.parametrize("key", ["seed", "max_steps", "depth", "new"])
def test_one_bad_run_takes_no_other_down(key: str, value: str, tmp_path: Path) -> None:
    write(tmp_path / "good")
    file = write(tmp_path / "bad", likelihood=-1.4) / "config.yaml"
    text, count = re.subn(rf"(?m)^( *{key}): .*$", lambda found: f"{found[1]}: {value}", file.read_text())
    file.write_text(text if count else f"{text}new: {value}\n")
    report = read(tmp_path)
    report.write(tmp_path / "report")
    assert tmp_path / "good" in {run.path for run in report.runs}


@pytest.mark.parametrize("error", [1e-300, -1.0, 5e-324, 1.7e308, 2**62])
@pytest.mark.parametrize("value", [1.5, 1e300, -1.7e308, 5e-324])
def test_a_number_of_any_size_has_room_in_a_table(value: float, error: float, tmp_path: Path) -> None:
    for seed in (1, 2):
        file = write(tmp_path / f"run{seed}", seed=seed) / "summary.json"
        summary = json.loads(file.read_text())
        summary["test"] |= {"log_likelihood": value, "log_likelihood_se": error, "kl_to_truth": error}
        file.write_text(json.dumps({**summary, "wall_seconds": 1.7e308}))
        read(tmp_path).write(tmp_path / "report")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "cifrun report needs a directory"),
        (["nowhere"], "there is no directory nowhere"),
        (["."], "there are no runs in ."),
        ([".", "format=pdf"], "but got 'format=pdf'"),
    ],
)
def test_mistakes_get_a_sentence(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *words]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("nowhere/there", "there is no folder 'nowhere'"),
        ("report.csv", "name the folder for report.md, report.csv"),
        ("table.dat", "name the folder for report.md, report.csv"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--watch"]])
def test_where_nothing_can_be_written_is_told_before_the_work(
    output: str, sentence: str, more: list[str], tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "runs" / "a")
    (tmp_path / "table.dat").touch()
    assert main(["report", "runs", f"output={output}", *more]) == 2
    told = capsys.readouterr()
    assert told.out == "" and sentence in told.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "table.dat"]


def test_a_report_follows_no_link_out_of_its_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "runs" / "a")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs" / "report").symlink_to(tmp_path / "elsewhere")
    assert main(["report", str(tmp_path / "runs")]) == 2
    assert "is a symbolic link" in capsys.readouterr().err and not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("status", ["running", "interrupted"])
def test_a_watch_ends_when_all_that_it_waits_for_is_dead(
    status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While somebody is at work in a run it waits; a kill releases the lock, and it ends."""
    write(tmp_path / "done")
    run = write(tmp_path / "killed", status=status, seed=2)
    with alone(run):
        pass  # the lock stays, as it does when its holder is killed
    held = ExitStack()
    lock = held.enter_context(FileLock(run / LOCK))
    pauses = []

    def pause(_: float) -> None:
        pauses.append(read(tmp_path).runs[1].busy)
        held.close()

    monkeypatch.setattr(time, "sleep", pause)
    assert main(["report", str(tmp_path), "--watch"]) == 0
    assert pauses == [True] and not lock.is_locked
    told = capsys.readouterr().out
    assert ("killed: killed, step 40 of 100" if status == "running" else "killed: interrupted") in told


@pytest.mark.parametrize("status", ["running", "interrupted"])
def test_a_watch_takes_a_run_without_a_lock_for_dead_when_nothing_has_changed_for_long(
    status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was made by an older version, which had no locks."""
    run = write(tmp_path / "old", status=status)
    places = [run, *run.rglob("*")]

    def age(seconds: float, *but: Path) -> None:
        for place in (place for place in places if place not in but):
            os.utime(place, (time.time() - seconds,) * 2)

    pauses = []

    def pause(_: float) -> None:
        pauses.append(read(tmp_path).runs[0].under_way)
        age(LONG + 60, *([run / "checkpoints"] if len(pauses) < 2 else []))
        assert len(pauses) < 3, "it waits for ever"

    age(LONG - 60)
    monkeypatch.setattr(time, "sleep", pause)
    assert main(["report", str(tmp_path), "--watch"]) == 0
    assert pauses == [True, True]


def test_a_watch_ends_where_no_run_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [5.0]

    def pause(seconds: float) -> None:
        clock[0] += seconds
        assert clock[0] < 2 * LONG, "it waits for ever"

    monkeypatch.setattr(reporting.time, "sleep", pause)
    monkeypatch.setattr(reporting.time, "monotonic", lambda: clock[0])
    assert main(["report", str(tmp_path), "--watch"]) == 2
    assert "no run has begun in" in capsys.readouterr().err and clock[0] >= LONG
