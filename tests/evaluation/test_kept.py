"""What `cifrun eval` leaves in a run: a result of the weights that are there, and nothing elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cifrun.cli.main import main
from cifrun.errors import RunError
from cifrun.evaluation import evaluate
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

    def meanwhile(*arguments):
        run.save_checkpoint("best", run.load_checkpoint("best"))  # as training does
        return real(*arguments)

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
