"""`warm_start`: a CIF that begins as a trained flow has its density, and never ends below it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cifrun.build import build_data, build_model, load_model, warm_start
from cifrun.cli.main import main
from cifrun.errors import RunError
from cifrun.runs.directory import RunDirectory
from cifrun.runs.records import read_metrics
from cifrun.training.loop import train
from tests.training.test_loop import config, same

FLOWS = ["maf", "resflow", "realnvp", "affine"]


def warm(flow: str, begin: Path, **more: Any) -> Any:
    return replace(config(flow, True, **more), warm_start=begin)


@pytest.mark.parametrize("flow", FLOWS)
def test_a_cif_begins_with_the_density_of_the_flow_and_never_ends_below_it(flow: str, tmp_path: Path) -> None:
    """Also where training ruins the model."""
    plain = train(config(flow, False, max_steps=14), tmp_path / "plain")
    ruin = {"name": "adam", "lr": 1.0}
    cif = train(warm(flow, tmp_path / "plain", max_steps=14, optimizer=ruin), tmp_path / "cif")
    rows = read_metrics(tmp_path / "cif" / "metrics.jsonl")
    first = next(row for row in rows if "valid/log_likelihood" in row)
    assert first["step"] == 0
    assert first["valid/log_likelihood"] == pytest.approx(plain["best_valid_log_likelihood"], abs=1e-5)
    assert cif["best_valid_log_likelihood"] >= first["valid/log_likelihood"]


def test_the_first_weights_are_the_flow_and_an_index_that_does_nothing(tmp_path: Path) -> None:
    train(config("maf", False, max_steps=10), tmp_path / "plain")
    made = warm("maf", tmp_path / "plain", max_steps=1, valid_every=50, optimizer={"name": "sgd", "lr": 1e-30})
    train(made, tmp_path / "cif")
    plain, cif = (load_model(RunDirectory(tmp_path / name)) for name in ("plain", "cif"))
    x = build_data(made).test[:50]
    exact, found = plain.log_w(x)[0], cif.log_w(x, 4)
    torch.testing.assert_close(found, exact.expand(4, -1), atol=1e-5, rtol=1e-5)


def test_a_run_that_began_warm_goes_on_without_the_other(tmp_path: Path) -> None:
    train(config("maf", False, max_steps=5), tmp_path / "plain")
    train(warm("maf", tmp_path / "plain", max_steps=12), tmp_path / "whole")
    train(warm("maf", tmp_path / "plain", max_steps=6), tmp_path / "parts")
    (tmp_path / "plain").rename(tmp_path / "elsewhere")
    train(warm("maf", tmp_path / "plain", max_steps=12), tmp_path / "parts", resume=True)
    a, b = (RunDirectory(tmp_path / name).load_checkpoint("latest") for name in ("whole", "parts"))
    assert same(a, b)


@pytest.mark.parametrize("before", [True, False])
def test_a_run_of_another_model_is_a_sentence(before: bool, tmp_path: Path) -> None:
    """Another flow; an index where there is none."""
    train(config("maf", before, max_steps=2), tmp_path / "first")
    other = config("maf", False) if before else config("realnvp", True)
    why = "an index that this model has not: add cif=true" if before else "other sizes, another base or other data"
    with pytest.raises(RunError, match=rf"warm_start = '.*first' is not possible: .* has {why}"):
        train(replace(other, warm_start=tmp_path / "first"), tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_a_run_of_other_columns_is_a_sentence(tmp_path: Path) -> None:
    """They would be taken for each other without a word."""
    train(config("maf", False, max_steps=1), tmp_path / "plain")
    run = RunDirectory(tmp_path / "plain")
    for tag in ("latest", "best", "final"):
        if run.checkpoint_path(tag).exists():
            checkpoint = run.load_checkpoint(tag)
            checkpoint.state["columns"] = ["height", "weight"]
            checkpoint.save(run.checkpoint_path(tag))
    model = build_model(config("maf", True), (2,))
    with pytest.raises(RunError, match="that run's columns are height, weight, and these data's weight, height"):
        warm_start(model, tmp_path / "plain", None, ["weight", "height"])


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["trainer.max_steps=3", "trainer.progress=false", "flow=maf", "flow.hidden=[8]", "trainer.plot_every=0"]
    words = ["train", *few, "dataset.num_train=100", "dataset.num_valid=50", "dataset.num_test=50", "device=cpu"]
    words += ["diagnostics.enabled=false", "eval.importance_samples=2"]
    assert main([*words, "cif=false", f"hydra.run.dir={tmp_path / 'plain'}"]) == 0
    assert main([*words, f"warm_start={tmp_path / 'plain'}", f"hydra.run.dir={tmp_path / 'cif'}"]) == 0
    capsys.readouterr()
    assert main([*words, f"warm_start={tmp_path / 'nothing'}", f"hydra.run.dir={tmp_path / 'other'}"]) == 2
    said = capsys.readouterr().err
    assert "nothing" in said and "Traceback" not in said and not (tmp_path / "other").exists()
