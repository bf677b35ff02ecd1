"""How a run ends: what it says when it fails, is stopped in its test, or can't be drawn; and twice is once."""

from __future__ import annotations

import json
import os
import shutil
import signal
from contextlib import contextmanager

import pytest

from cifrun.cli.main import main
from cifrun.errors import ConfigError, ConvergenceError, RunError
from cifrun.io import files
from cifrun.runs.directory import RunDirectory
from cifrun.runs.records import read_metrics
from cifrun.training import ending, loop
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
    real = ending.result_of
    monkeypatch.setattr(ending, "result_of", lambda *arguments: signal.raise_signal(number))
    assert main(words) == 130
    run = RunDirectory(tmp_path)
    assert run.summary()["status"] == "interrupted" and "test" not in run.summary()
    assert f"cifrun train resume={tmp_path}" in capsys.readouterr().err
    monkeypatch.setattr(ending, "result_of", real)
    assert main(words) == 0
    assert run.summary()["status"] == "completed" and run.summary()["test"]["log_likelihood"] == expected


def test_a_stop_before_the_first_step_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "build_data", lambda config: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path / "run")
    assert capsys.readouterr().err == "cifrun: stopped before the first step\n"
    assert not (tmp_path / "run").exists()


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

    monkeypatch.setattr(ending, "_draw", broken)
    train(config(), tmp_path)
    assert RunDirectory(tmp_path).summary()["status"] == "completed"
    err = capsys.readouterr().err
    assert err.startswith("cifrun: pictures are missing: ") and err.count("\n") == 1


def test_a_stop_while_it_draws_keeps_the_result(tmp_path, monkeypatch):
    monkeypatch.setattr(ending, "_draw", lambda *_: signal.raise_signal(signal.SIGTERM))
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

    monkeypatch.setattr(ending, place, broken)
    with pytest.raises(type(error)):
        train(config(), tmp_path)
    summary = RunDirectory(tmp_path).summary()
    assert (summary["status"], summary["error"]) == ("failed", told)


def test_records_that_can_not_be_opened_leave_a_run_that_failed(tmp_path, monkeypatch):
    def full(*_, **__):
        raise RunError("no room for records")

    monkeypatch.setattr("cifrun.runs.directory.Tracker", full)
    with pytest.raises(RunError, match="no room"):
        train(config(), tmp_path)
    assert RunDirectory(tmp_path).summary()["status"] == "failed"


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


# --- the last weights -------------------------------------------------------------------------------------------------


def test_the_last_weights_are_validated_and_used_if_they_are_the_best(tmp_path):
    train(config(max_steps=8, batch_size=300), tmp_path / "uneven")
    train(config(max_steps=8, valid_every=4, batch_size=300), tmp_path / "even")
    uneven, even = RunDirectory(tmp_path / "uneven"), RunDirectory(tmp_path / "even")
    last = uneven.load_checkpoint("latest").part("model")
    assert uneven.best_tag() == "final" and even.best_tag() == "best"
    for name, weight in uneven.load_checkpoint("final").part("model").items():
        assert weight.equal(last[name]) and weight.equal(even.load_checkpoint("best").part("model")[name])
    assert uneven.summary()["best_valid_log_likelihood"] == even.summary()["best_valid_log_likelihood"]
    assert uneven.summary()["test"]["log_likelihood"] == even.summary()["test"]["log_likelihood"]
    steps = [row["step"] for row in read_metrics(uneven.path / "metrics.jsonl") if "valid/log_likelihood" in row]
    assert steps == [3, 6, 8]


def test_what_a_longer_run_does_does_not_depend_on_it(tmp_path):
    """Runs of 9 steps, at once and in two parts of which the first ends between validations, are the same."""
    train(config(max_steps=9), tmp_path / "whole")
    train(config(max_steps=8), tmp_path / "parts")
    assert RunDirectory(tmp_path / "parts").best_tag() == "final"
    train(config(max_steps=9), tmp_path / "parts", resume=True)
    whole, parts = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "parts")
    assert parts.best_tag() == whole.best_tag() == "best"
    for tag in ("best", "latest"):
        one, other = whole.load_checkpoint(tag), parts.load_checkpoint(tag)
        assert {**one.state, "wall_seconds": 0} == {**other.state, "wall_seconds": 0}
        assert all(weight.equal(other.tensors[name]) for name, weight in one.tensors.items())
    assert whole.summary()["test"]["log_likelihood"] == parts.summary()["test"]["log_likelihood"]


def test_a_run_shorter_than_its_first_validation_has_one(tmp_path):
    train(config(max_steps=2), tmp_path)
    assert RunDirectory(tmp_path).summary()["best_valid_log_likelihood"] < 0


def test_a_run_can_not_shrink(tmp_path):
    train(config(), tmp_path)
    before = (tmp_path / "config.yaml").read_text(), (tmp_path / "summary.json").read_text()
    with pytest.raises(ConfigError, match="the run has done 6 steps, and can only grow"):
        train(config(max_steps=2), tmp_path, resume=True)
    assert before == ((tmp_path / "config.yaml").read_text(), (tmp_path / "summary.json").read_text())


def test_a_directory_that_is_removed_meanwhile_is_not_made_again(tmp_path, monkeypatch):
    real = ending.result_of

    def meanwhile(*arguments):
        shutil.rmtree(tmp_path / "run")
        return real(*arguments)

    monkeypatch.setattr(ending, "result_of", meanwhile)
    with pytest.raises(RunError, match="is gone"):
        train(config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_new_run_does_not_overwrite_one_that_began_meanwhile(tmp_path, monkeypatch, capsys):
    """It looks when it is alone there, and not before."""
    words = ["train", "dataset=two_uniforms", "flow=realnvp", "debug=tiny", f"hydra.run.dir={tmp_path / 'run'}"]
    real = loop.alone

    @contextmanager
    def late(directory):
        with monkeypatch.context() as only_once:
            only_once.setattr(loop, "alone", real)
            train(config(), directory)
        with real(directory):
            yield

    monkeypatch.setattr(loop, "alone", late)
    assert main(words) == 2
    assert "already holds a run: resume=" in capsys.readouterr().err
    assert RunDirectory(tmp_path / "run").summary()["steps"] == 6
