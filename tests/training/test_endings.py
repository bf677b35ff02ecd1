"""How a run ends: what it says when it fails, is stopped in its test, or can't be drawn; and twice is once."""

from __future__ import annotations

import json
import os
import signal

import pytest

from cifrun.cli.main import main
from cifrun.errors import ConvergenceError, RunError
from cifrun.io import files
from cifrun.runs.directory import RunDirectory
from cifrun.runs.records import read_metrics
from cifrun.training import loop
from cifrun.training.loop import train
from tests.helpers import small_config

pytestmark = pytest.mark.usefixtures("without_pictures")


def config(**trainer):
    pace = {"max_steps": 6, "valid_every": 3, "log_every": 2, "checkpoint_every": 3, "plot_every": 0}
    options = {"batch_size": 100, "progress": False, **pace, **trainer}
    return small_config("realnvp", True, eval={"importance_samples": 3, "valid_importance_samples": 2}, trainer=options)


def results_in(run):
    return [row["step"] for row in read_metrics(run.path / "metrics.jsonl") if "test/log_likelihood" in row]


# --- the test ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_the_test_is_told_and_the_run_goes_on_there(number, tmp_path, monkeypatch, capsys):
    words = ["train", f"resume={tmp_path}", "trainer.progress=false"]
    train(config(), tmp_path)
    expected = RunDirectory(tmp_path).summary()["test"]["log_likelihood"]
    real = loop.result_of
    monkeypatch.setattr(loop, "result_of", lambda *arguments: signal.raise_signal(number))
    assert main(words) == 130
    run = RunDirectory(tmp_path)
    assert run.summary()["status"] == "interrupted" and "test" not in run.summary()
    assert f"cifrun train resume={tmp_path}" in capsys.readouterr().err
    monkeypatch.setattr(loop, "result_of", real)
    assert main(words) == 0
    assert run.summary()["status"] == "completed" and run.summary()["test"]["log_likelihood"] == expected


def test_a_run_that_is_tested_again_has_one_result(tmp_path):
    train(config(), tmp_path)
    first = RunDirectory(tmp_path).summary()["test"]
    for _ in range(2):
        train(config(), tmp_path, resume=True)
        assert main(["eval", f"run={tmp_path}"]) == 0
    run = RunDirectory(tmp_path)
    assert results_in(run) == [6]
    assert run.summary()["test"]["log_likelihood"] == first["log_likelihood"]
    train(config(max_steps=8), tmp_path, resume=True)
    assert results_in(run) == [6, 8], "what it was worth after six steps is no repetition"


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("no such\nbackend"), OSError(28, "No space left"), RunError("full")])
def test_a_picture_that_fails_is_a_warning_and_the_result_is_there(error, tmp_path, monkeypatch, capsys):
    def broken(*_):
        assert RunDirectory(tmp_path).summary()["test"]["log_likelihood"] < 0, "pictures come after the result"
        raise error

    monkeypatch.setattr(loop, "_draw", broken)
    train(config(), tmp_path)
    assert RunDirectory(tmp_path).summary()["status"] == "completed"
    err = capsys.readouterr().err
    assert err.startswith("cifrun: pictures are missing: ") and err.count("\n") == 1


def test_a_stop_while_it_draws_keeps_the_result(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_draw", lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path)
    summary = RunDirectory(tmp_path).summary()
    assert summary["status"] == "completed" and summary["test"]["log_likelihood"] < 0


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ZeroDivisionError("a slip\nof two lines"), "ZeroDivisionError: a slip of two lines"),
        (ConvergenceError("no inverse"), "no inverse"),
        (RunError("disk full"), "disk full"),
    ],
)
@pytest.mark.parametrize("place", ["evaluate_split", "result_of"])
def test_a_failure_says_why(error, told, place, tmp_path, monkeypatch):
    def broken(*_):
        raise error

    monkeypatch.setattr(loop, place, broken)
    with pytest.raises(type(error)):
        train(config(), tmp_path)
    summary = RunDirectory(tmp_path).summary()
    assert (summary["status"], summary["error"]) == ("failed", told)


def test_a_disk_that_is_full_leaves_the_last_checkpoint_and_a_true_status(tmp_path, monkeypatch, capsys):
    """From the second checkpoint on there is no room for one, but still for a summary."""
    saved, full = [], os.strerror(28)
    real = files.os.replace

    def replace(source, target):
        if str(target).endswith(".safetensors"):
            saved.append(target)
            if len(saved) > 1:
                raise OSError(28, full)
        real(source, target)

    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(RunError, match=f"can't be written: {full}"):
        train(config(), tmp_path)
    run = RunDirectory(tmp_path)
    assert run.summary()["status"] == "failed" and full in run.summary()["error"]
    assert run.load_checkpoint("latest").state["step"] == 0
    assert not list(tmp_path.rglob("*.tmp"))
    monkeypatch.setattr(files.os, "replace", real)
    train(config(), tmp_path, resume=True)
    assert run.summary()["status"] == "completed" and run.summary()["error"] is None


def test_a_batch_that_can_not_be_cut_is_refused_before_anything_is_written(tmp_path, capsys):
    words = ["dataset=two_uniforms", "flow=realnvp", "debug=tiny", "trainer.micro_batches=999"]
    assert main(["train", *words, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert "can't be cut into 999 parts" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_machine_may_say_what_went_wrong(tmp_path):
    train(config(), tmp_path)
    file = tmp_path / "summary.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "error": "memory is too small"}))
    assert RunDirectory(tmp_path).summary()["error"] == "memory is too small"
