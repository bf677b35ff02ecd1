"""Averages of weights: their formula, who uses them, and that they survive a resume bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cifrun.build import build_data, load_model
from cifrun.evaluation.evaluate import evaluate_split
from cifrun.runs.directory import RunDirectory
from cifrun.training.averages import Averages
from cifrun.training.loop import train
from tests.training.test_loop import config, same


def test_an_average_is_the_sum_with_its_weights() -> None:
    model = nn.Linear(2, 1)
    averages = Averages(model, 0.9)
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    for t in range(1, 200):
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.randn_like(p))
        averages.update()
        d = min(0.9, (1 + t) / (10 + t))
        expected = {name: d * expected[name] + (1 - d) * p.detach() for name, p in model.named_parameters()}
    torch.testing.assert_close(averages.named(), expected)


def test_the_model_has_them_inside_and_its_own_weights_after() -> None:
    model = nn.Linear(2, 1)
    averages = Averages(model, 0.5)
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    averages.update()
    with pytest.raises(ZeroDivisionError), averages.used():
        torch.testing.assert_close(model.weight, before + 9 / 11)  # d = 2/11
        raise ZeroDivisionError
    torch.testing.assert_close(model.weight, before + 1)


def test_without_a_decay_there_are_none() -> None:
    model = nn.Linear(2, 1)
    averages = Averages(model, 0.0)
    averages.update()
    assert averages.named() == {}
    with averages.used():
        pass


OPTIMIZERS = [{"name": "muon", "lr": 0.05, "ema": 0.9}, {"name": "adam", "lr": 0.05, "ema": 0.9}, {"name": "soap"}]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["muon", "adam", "soap"])
@pytest.mark.parametrize("cif", [False, True])
def test_a_run_that_is_resumed_is_the_same_bit_for_bit(tmp_path: Path, optimizer: dict[str, object], cif: bool) -> None:
    pytest.importorskip("pytorch_optimizer")
    settings = {"optimizer": {"schedule": "none", **optimizer}, "valid_every": 4}
    whole = train(config("maf", cif, max_steps=12, **settings), tmp_path / "whole")
    train(config("maf", cif, max_steps=6, **settings), tmp_path / "parts")
    parts = train(config("maf", cif, max_steps=12, **settings), tmp_path / "parts", resume=True)
    for tag in ("latest", "best"):
        a, b = (RunDirectory(tmp_path / name).load_checkpoint(tag) for name in ("whole", "parts"))
        assert same(a, b)
    assert whole["test"]["log_likelihood"] == parts["test"]["log_likelihood"]


def test_whoever_reads_a_run_gets_the_averages(tmp_path: Path) -> None:
    """What was tested, what is loaded, and what "latest" has for weights are the averages; "trained" is beside them."""
    settings = config("maf", True, max_steps=8, valid_every=8, optimizer={"name": "muon", "ema": 0.9})
    summary = train(settings, tmp_path)
    run = RunDirectory(tmp_path)
    latest, best = run.load_checkpoint("latest"), run.load_checkpoint("best")
    averaged, trained = latest.part("model"), latest.part("trained")
    assert trained and all(not torch.equal(averaged[name], value) for name, value in trained.items())
    assert all(torch.equal(best.part("model")[name], averaged[name]) for name in trained)
    model = load_model(run, settings)
    for name, p in model.named_parameters():
        assert torch.equal(p, averaged[name])
    data = build_data(settings)
    _, found = evaluate_split(model, data.test, settings, settings.eval.importance_samples, data.target)
    assert found["log_likelihood"] == pytest.approx(summary["test"]["log_likelihood"], rel=1e-6)
