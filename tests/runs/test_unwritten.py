"""A run without a directory: what it keeps is a copy, and the last of its kind."""

from __future__ import annotations

import pytest
import torch

from cifrun.errors import RunError
from cifrun.runs.checkpoint import Checkpoint
from cifrun.runs.unwritten import Unwritten


def test_a_checkpoint_is_a_copy_and_the_next_takes_its_place() -> None:
    run, weights = Unwritten(), torch.ones(3, requires_grad=True)
    run.save_checkpoint("latest", Checkpoint({"w": weights}, {"step": 1}))
    with torch.no_grad():
        weights += 1
    kept = run.load_checkpoint("latest")
    assert kept.state == {"step": 1} and kept.tensors["w"].tolist() == [1, 1, 1]
    assert not kept.tensors["w"].requires_grad
    run.save_checkpoint("latest", Checkpoint({"w": weights}, {"step": 2}))
    assert run.load_checkpoint("latest").state == {"step": 2}


def test_the_best_weights_are_those_of_a_validation_where_there_was_one() -> None:
    run = Unwritten()
    with pytest.raises(RunError, match="there is no checkpoint 'best'"):
        run.load_checkpoint("best")
    run.save_checkpoint("latest", Checkpoint({}, {}))
    assert run.best_tag() == "latest"
    run.save_checkpoint("best", Checkpoint({}, {}))
    assert run.best_tag() == "best"


def test_records_are_the_numbers_of_each_step() -> None:
    run = Unwritten()
    with run.tracker() as tracker:
        tracker.scalars(3, {"train/loss": 1})
        tracker.text("config", "seed: 1")
        tracker.scalars(4, {"train/loss": 0.5})
    assert run.metrics() == [{"step": 3, "train/loss": 1.0}, {"step": 4, "train/loss": 0.5}]
