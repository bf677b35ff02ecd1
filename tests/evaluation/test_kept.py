"""What `cifrun eval` leaves in a run: a result of the weights that are there, and nothing elsewhere."""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cifrun.cli.main import main
from cifrun.errors import RunError
from cifrun.evaluation import evaluate
from cifrun.runs.checkpoint import Checkpoint
from cifrun.runs.directory import RunDirectory
from cifrun.runs.lock import Busy
from cifrun.training.loop import train
from tests.helpers import small_config, without_pictures


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "trained"
    trainer = {"max_steps": 4, "batch_size": 50, "progress": False, "plot_every": 0, "valid_every": 2}
    config = small_config(
        "realnvp",
        True,
        eval={"importance_samples": 3, "valid_importance_samples": 2},
        trainer=trainer,
        diagnostics={"enabled": True, "samples": 100, "density_points": 20, "weights": 30},
    )
    with without_pictures():
        train(config, directory)
    return directory


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunDirectory:
    return RunDirectory(shutil.copytree(trained, tmp_path / "run"))


def test_diagnostics_are_measured_again_only_when_asked(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run.summary()["test"]
    measured = []
    real = evaluate.Diagnostics.__call__
    monkeypatch.setattr(
        evaluate.Diagnostics, "__call__", lambda self, model: measured.append(self.settings) or real(self, model)
    )
    assert main(["eval", f"run={run.path}", "eval.importance_samples=5"]) == 0
    after = run.summary()["test"]
    assert not measured and after["importance_samples"] == 5 and after.keys() == before.keys()
    assert after["pareto_k"] == before["pareto_k"] and after["elbo"] != before["elbo"]
    assert main(["eval", f"run={run.path}", "diagnostics.weights=40"]) == 0
    assert [settings.weights for settings in measured] == [40]
    assert run.summary()["test"]["pareto_k"] != before["pareto_k"]
    assert main(["eval", f"run={run.path}", "diagnostics.enabled=true"]) == 0
    assert [settings.weights for settings in measured] == [40, 30]


def test_a_result_of_weights_that_are_no_longer_there_is_not_kept(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, real = run.summary(), evaluate.result_of

    def meanwhile(*arguments, **options):
        run.save_checkpoint("best", run.load_checkpoint("best"))  # as training does
        return real(*arguments, **options)

    monkeypatch.setattr(evaluate, "result_of", meanwhile)
    assert main(["eval", f"run={run.path}", "eval.importance_samples=5"]) == 0
    out, err = capsys.readouterr()
    assert "IWAE" in out and "this result is not kept" in err and "other weights" in err
    assert run.summary() == before


@pytest.mark.parametrize("error", [Busy("another process is at work"), RunError("Permission denied")])
def test_a_result_is_printed_where_it_can_not_be_kept(
    error: RunError, run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(directory: Path) -> None:
        raise error

    before = run.summary()
    monkeypatch.setattr(evaluate, "alone", refuse)
    assert main(["eval", f"run={run.path}"]) == 0
    out, err = capsys.readouterr()
    assert "IWAE" in out and err == f"cifrun: this result is not kept: {error}\n"
    assert run.summary() == before


@pytest.fixture
def overflowing(run: RunDirectory) -> RunDirectory:
    """A run whose weights are finite, and too large to compute with."""
    for tag in ("best", "latest"):
        checkpoint = run.load_checkpoint(tag)
        large = {k: v * 1e30 if k.endswith("weight") else v for k, v in checkpoint.tensors.items()}
        Checkpoint(large, checkpoint.state).save(run.checkpoint_path(tag))
    return run


def test_a_log_likelihood_that_is_no_number_is_refused(
    overflowing: RunDirectory, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = overflowing.summary()
    (tmp_path / "gap.csv").write_text("x1,x2\n0.5,\n0.5,0.5\n")
    for words, of in (
        ([], r"[0-9]+ of the 500 test data, row 1 first"),
        ([f"data={tmp_path}/gap.csv", "dataset.missing=skip"], r"1 of the 1 data in \S+gap\.csv, row 2 first"),
    ):
        assert main(["eval", f"run={overflowing.path}", *words]) == 2
        said = capsys.readouterr()
        assert re.fullmatch(rf"cifrun: log p\(x\) is no number for {of}: .* too large to compute with\n", said.err)
        assert said.out == "" and overflowing.summary() == before


def test_samples_that_are_not_finite_are_refused(
    overflowing: RunDirectory, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["sample", f"run={overflowing.path}", "n=7", f"output={tmp_path}/x.npy"]) == 2
    assert capsys.readouterr().err.startswith("cifrun: 7 of the 7 samples are not finite, and none is written: ")
    assert not (tmp_path / "x.npy").exists()


def test_a_density_that_is_too_small_is_a_number(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "far.csv").write_text("x1,x2\n0.5,0.5\n1e30,1e30\n")
    result = evaluate.evaluate(run.path, replace(run.config(), data=tmp_path / "far.csv"))
    assert result["log_likelihood"] == -math.inf
