"""Training: continued runs are bit-for-bit the same, losses that are not finite do no harm, kills lose nothing."""

from __future__ import annotations

import os
import signal
import sys

import pytest
import torch

import cifrun
from cifrun.cli.main import main
from cifrun.errors import TrainingError
from cifrun.objectives.elbo import elbo
from cifrun.registry import OBJECTIVES
from cifrun.runs.directory import RunDirectory
from cifrun.runs.records import read_metrics
from cifrun.training import ending
from cifrun.training.loop import train
from tests.forks import Forked
from tests.helpers import after_steps, small_config

pytestmark = pytest.mark.usefixtures("without_pictures")

EVAL = {"importance_samples": 3, "valid_importance_samples": 2}


def config(flow="realnvp", cif=True, eval=EVAL, objective=None, optimizer=None, **trainer):
    pace = {"valid_every": 7, "log_every": 5, "checkpoint_every": 9, "plot_every": 0}
    options = {"batch_size": 300, "progress": False, **pace}
    extra = {k: v for k, v in (("objective", objective), ("optimizer", optimizer)) if v}
    return small_config(flow, cif, eval=eval, trainer={**options, **trainer}, **extra)


def same(a, b):
    a, b = a.tensors, b.tensors
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("flow", ["resflow", "realnvp", "maf"])
@pytest.mark.parametrize("cif", [True, False])
def test_forty_steps_are_twenty_and_twenty(flow, cif, tmp_path):
    """Weights, optimiser, generators, best checkpoint and every logged number are equal to the last bit."""
    train(config(flow, cif, max_steps=40), tmp_path / "whole")
    train(config(flow, cif, max_steps=20), tmp_path / "parts")
    train(config(flow, cif, max_steps=40), tmp_path / "parts", resume=True)
    whole, parts = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "parts")
    for tag in ("latest", "best"):
        assert same(whole.load_checkpoint(tag), parts.load_checkpoint(tag))
    times = ("time", "train/step_seconds", "test/seconds")
    rows = [
        {k: v for k, v in row.items() if k not in times and not k.startswith("test/")}
        for run in (whole, parts)
        for row in read_metrics(run.path / "metrics.jsonl")
        if row["step"] > 20
    ]
    assert len(rows) > 8 and rows[: len(rows) // 2] == rows[len(rows) // 2 :]
    assert whole.summary()["test"]["log_likelihood"] == parts.summary()["test"]["log_likelihood"]


def test_the_unbiased_estimator_continues_too(tmp_path):
    settings = {"logdet": "unbiased"}
    options = {"batch_size": 64, "plot_every": 0, "progress": False, "valid_every": 50}

    def make(steps):
        return small_config("resflow", True, flow=settings, eval=EVAL, trainer={**options, "max_steps": steps})

    train(make(12), tmp_path / "whole")
    train(make(6), tmp_path / "parts")
    train(make(12), tmp_path / "parts", resume=True)
    a, b = (RunDirectory(tmp_path / n).load_checkpoint("latest") for n in ("whole", "parts"))
    assert same(a, b)


@pytest.mark.parametrize(
    ("objective", "optimizer"),
    [
        ({"name": "iwae", "importance_samples": 5}, {"name": "adam", "max_grad_norm": 1.0}),
        ({"name": "elbo", "importance_samples": 2}, {"name": "adamw", "schedule": "cosine", "warmup_steps": 10}),
        ({"name": "elbo", "importance_samples": 1}, {"name": "sgd", "lr": 1e-1, "max_grad_norm": 1.0}),
    ],
)
def test_every_objective_and_optimiser_learns(objective, optimizer, tmp_path):
    summary = train(config("maf", True, max_steps=120, objective=objective, optimizer=optimizer), tmp_path)
    first = next(row for row in read_metrics(tmp_path / "metrics.jsonl") if "train/elbo" in row)
    assert summary["test"]["elbo"] > first["train/elbo"] + 0.1


def test_validation_does_not_change_training(tmp_path):
    for name, every in (("often", 1), ("never", 1000)):
        train(config("maf", True, max_steps=10, valid_every=every), tmp_path / name)
    a, b = (RunDirectory(tmp_path / name).load_checkpoint("latest") for name in ("often", "never"))
    assert same(a, b)


def test_patience_stops_early(tmp_path):
    # A learning rate that ruins the model: validation soon gets no better.
    ruin = {"name": "adam", "lr": 0.5}
    summary = train(config("maf", True, max_steps=500, valid_every=1, patience=3, optimizer=ruin), tmp_path)
    assert summary["status"] == "stopped_early" and summary["steps"] < 500


@pytest.fixture
def sometimes_nan():
    """An objective that is NaN on the calls named by `bad`."""
    bad, calls = set(), [0]

    def objective(log_w):
        calls[0] += 1
        return elbo(log_w) * (float("nan") if calls[0] in bad else 1.0)

    OBJECTIVES._entries["sometimes_nan"] = objective
    yield bad
    del OBJECTIVES._entries["sometimes_nan"]


def test_a_loss_that_is_not_finite_skips_the_step(sometimes_nan, tmp_path):
    sometimes_nan.update({3, 4, 9})
    summary = train(config(max_steps=12, objective={"name": "sometimes_nan"}), tmp_path)
    assert summary["status"] == "completed" and summary["steps"] == 12 and summary["skipped_steps"] == 3
    assert all(v.isfinite().all() for v in RunDirectory(tmp_path).load_checkpoint("latest").part("model").values())


def test_too_many_of_them_stop_the_run_and_keep_the_last_good_checkpoint(sometimes_nan, tmp_path):
    sometimes_nan.update(range(11, 100))
    options = {"max_bad_steps": 5, "log_every": 1, "checkpoint_every": 1}
    with pytest.raises(TrainingError, match=r"not finite for 5 steps in a row, up to step 15.*latest"):
        train(config(max_steps=50, **options, objective={"name": "sometimes_nan"}), tmp_path)
    checkpoint = RunDirectory(tmp_path).load_checkpoint("latest")
    assert checkpoint.state["step"] == 10
    assert RunDirectory(tmp_path).summary()["status"] == "failed"
    cifrun.load(tmp_path)


# --- stopped and killed -----------------------------------------------------------------------------------------------

WORDS = [
    "train", "dataset=two_uniforms", "dataset.num_train=500", "dataset.num_valid=50", "dataset.num_test=50",
    "flow=realnvp", "flow.depth=2", "flow.hidden=[8]", "trainer.batch_size=50", "trainer.plot_every=0",
    "trainer.log_every=1", "eval.importance_samples=2", "diagnostics.enabled=false", "trainer.max_steps=1000000",
]  # fmt: skip


def test_an_error_that_nobody_foresaw_leaves_a_run_that_failed(tmp_path, monkeypatch):
    """As that of a flow from elsewhere at its first validation."""

    def broken(*_):
        raise ValueError("no density here")

    monkeypatch.setattr(ending, "evaluate_split", broken)
    with pytest.raises(ValueError, match="no density here"):
        train(config(max_steps=20), tmp_path / "run")
    summary = RunDirectory(tmp_path / "run").summary()
    assert (summary["status"], summary["steps"]) == ("failed", 7)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_request_saves_and_says_how_to_go_on(number, tmp_path, capsys):
    with after_steps(25, lambda: signal.raise_signal(number)):
        assert main([*WORDS, f"hydra.run.dir={tmp_path}"]) == 130
    err = capsys.readouterr().err
    assert f"cifrun train resume={tmp_path}" in err and "Traceback" not in err
    run = RunDirectory(tmp_path)
    assert run.load_checkpoint("latest").state["step"] == 25
    assert run.summary()["status"] == "interrupted" and run.summary()["steps"] == 25
    assert main(["train", f"resume={tmp_path}", "trainer.max_steps=30"]) == 0
    assert run.summary()["status"] == "completed" and run.summary()["steps"] == 30


def killed_main(event, left, words):
    """A command whose process is killed before it does something to a temporary file for the n-th time."""

    def count(name, arguments):
        nonlocal left
        if name == event and str(arguments[0]).endswith(".tmp"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    return main(words)


def test_killed_while_it_writes_files_a_run_always_loads_and_goes_on(tmp_path):
    """SIGKILL before a file is flushed, renamed, and the renaming cleaned up: the old one or the new one is there."""
    words, steps = [*WORDS, "trainer.checkpoint_every=1", "trainer.valid_every=1", f"hydra.run.dir={tmp_path}"], []
    for event, number in (("open", 30), ("os.rename", 31), ("os.remove", 32)):
        code, _, err = Forked(killed_main, event, number, words).wait()
        assert code == -signal.SIGKILL, err
        cifrun.load(tmp_path).log_prob(torch.zeros(1, 2), importance_samples=2)
        steps.append(RunDirectory(tmp_path).load_checkpoint("latest").state["step"])
        assert RunDirectory(tmp_path).summary()["status"] == "running"
        words = ["train", f"resume={tmp_path}"]
    assert 0 < steps[0] < steps[1] < steps[2]
    end = steps[-1] + 3
    assert main(["train", f"resume={tmp_path}", f"trainer.max_steps={end}"]) == 0
    rows = [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl") if "train/loss" in row]
    assert rows == list(range(1, end + 1))  # no step is missing, and none is logged twice


def test_what_is_wrong_with_the_data_is_said_once(tmp_path, capsys):
    """By the leading process, before training; the run keeps it, and neither going on nor evaluation say it again."""
    generator = torch.Generator().manual_seed(0)
    x = torch.stack([torch.randn(300, generator=generator), torch.arange(300) % 4], 1)
    (tmp_path / "x.csv").write_text("size,kind\n" + "".join(f"{a},{b}\n" for a, b in x.tolist()))
    words = ["flow=realnvp", "flow.depth=1", "cif=false", "trainer.progress=false", "diagnostics.enabled=false"]
    words += ["dataset=file", f"dataset.path={tmp_path / 'x.csv'}", f"hydra.run.dir={tmp_path / 'run'}"]
    assert main(["train", *words, "trainer.max_steps=2"]) == 0
    sentence = "few distinct values in the 240 training rows: column 'kind' (4, 1.67 %)"
    err = capsys.readouterr().err
    assert err.startswith(f"cifrun: dataset 'file': {sentence}; ") and err.count("\n") == 1
    (kept,) = RunDirectory(tmp_path / "run").summary()["data_warnings"]
    assert kept.startswith(sentence) and err == f"cifrun: dataset 'file': {kept}\n"
    assert main(["train", f"resume={tmp_path / 'run'}", "trainer.max_steps=4", "trainer.progress=false"]) == 0
    assert main(["eval", f"run={tmp_path / 'run'}"]) == 0
    assert capsys.readouterr().err == "" and RunDirectory(tmp_path / "run").summary()["data_warnings"] == [kept]
