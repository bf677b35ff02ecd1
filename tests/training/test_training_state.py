"""The training state's way to a checkpoint and back; what no run has written is refused in one sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from cifrun.config.schema import OptimizerConfig, TrainerConfig
from cifrun.errors import RunError
from cifrun.registry import OPTIMIZERS
from cifrun.runs.checkpoint import Checkpoint
from cifrun.runs.directory import RunDirectory
from cifrun.training.training_state import TrainingState


def test_state_goes_to_a_file_and_back(tmp_path):
    model = torch.nn.Linear(3, 2)
    for name in OPTIMIZERS:
        optimizer = OPTIMIZERS[name](model.parameters(), OptimizerConfig())
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        state = TrainingState(shape=[3], step=7, skipped=1, best_valid=-1.5, wall_seconds=2.5)
        run = RunDirectory(tmp_path)
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        run.save_checkpoint("latest", state.checkpoint(model, optimizer))
        draw = torch.rand(4)

        other = torch.nn.Linear(3, 2)
        twin = OPTIMIZERS[name](other.parameters(), OptimizerConfig())
        back = TrainingState.restore(run.load_checkpoint("latest"), other, twin, "file")
        assert back == state
        assert torch.equal(torch.rand(4), draw)
        assert torch.equal(other.weight, model.weight)
        torch.testing.assert_close(twin.state_dict(), optimizer.state_dict(), rtol=0, atol=0)


def test_patience_and_improvement():
    trainer = TrainerConfig(max_steps=100, patience=2)
    state = TrainingState()
    assert state.improves(-3.0) and not state.improves(-3.0) and not state.improves(float("nan"))
    assert state.finished(trainer)
    assert not state.finished(TrainerConfig(max_steps=100, patience=0))
    assert state.improves(-2.0) and not state.finished(trainer)
    state.step = 100
    assert state.finished(trainer)


# --- states that no run has written -----------------------------------------------------------------------------------

HUGE = 10**400


def saved(**changes: Any) -> tuple[Checkpoint, torch.nn.Module, torch.optim.Optimizer]:
    """A checkpoint with some entries of its state changed, as they come back from JSON, and what it is read into."""
    model = torch.nn.Linear(3, 2)
    optimizer = OPTIMIZERS["adam"](model.parameters(), OptimizerConfig())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint = TrainingState(shape=[3], step=7, best_valid=-1.5).checkpoint(model, optimizer)
    state = json.loads(json.dumps(checkpoint.state | changes))
    return Checkpoint(checkpoint.tensors, state), model, optimizer


def sentence(checkpoint: Checkpoint, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> str:
    with pytest.raises(RunError) as error:
        TrainingState.restore(checkpoint, model, optimizer, "run/latest")
    text = str(error.value)
    assert text.startswith("run/latest ") and "\n" not in text and len(text) < 250, text
    return text


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("step", [-1, 1.0, 2.5, True, None, "7", [7], {}, math.nan, 2**63, HUGE]),
        ("skipped", [-3, 0.5, None, "none", 2**64]),
        ("bad_steps", [-1, False, [], HUGE]),
        ("bad_validations", [-1, 1.5, {}]),
        ("wall_seconds", [-0.5, math.inf, math.nan, None, "12", True, HUGE]),
        ("best_valid", [math.nan, -math.inf, "best", True, [1.0], -HUGE]),
    ],
)
def test_a_counter_that_is_none_is_one_sentence(name: str, values: list[Any]) -> None:
    for value in values:
        assert f"'{name}'" in sentence(*saved(**{name: value})), value


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("shape", [[], [0], [-2], [2.0], [True], ["3"], [2**31], [[3]], 3, None, {"3": 3}, "3", [HUGE]]),
        ("standardized", [None, 1, [], {}]),
        ("columns", [None, "ab", [1], [None], {"a": 1}, [["a"]]]),
        ("levels", [0, -2, 2.0, True, "256", [256]]),
        ("fingerprint", [1, True, [], {}, 3.5]),
    ],
)
def test_facts_of_the_data_that_are_none_are_one_sentence(name: str, values: list[Any]) -> None:
    for value in values:
        assert "damaged" in sentence(*saved(**{name: value})), value


@pytest.mark.parametrize("name", ["step", "skipped", "bad_steps", "best_valid", "bad_validations", "wall_seconds"])
def test_a_counter_that_is_missing_is_named(name: str) -> None:
    checkpoint, model, optimizer = saved()
    del checkpoint.state[name]
    assert f"has no '{name}'" in sentence(checkpoint, model, optimizer)


GROUP = {"params": [0, 1], "lr": 0.1, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0}


@pytest.mark.parametrize(
    "changes",
    [
        {"param_groups": value}
        for value in (
            None,
            3,
            "groups",
            [],
            {},
            [None],
            [[]],
            [{}],
            [GROUP, GROUP],
            [{**GROUP, "params": [0]}],
            [{**GROUP, "params": [0, 0]}],
            [{**GROUP, "params": None}],
            [{**GROUP, "lr": "fast"}],
            [{**GROUP, "lr": math.nan}],
            [{**GROUP, "betas": 0.9}],
            [{**GROUP, "betas": [0.9, None]}],
            [{**GROUP, "fused": "yes"}],
        )
    ]
    + [
        {"optimizer_numbers": value}
        for value in (None, 3, "ab", [1], {"weight": 1}, {"x.y": 2}, {"0.step": 3}, {"0.more": "1"})
    ],
    ids=str,
)
def test_settings_of_an_optimiser_that_are_none_are_one_sentence(changes: dict[str, Any]) -> None:
    assert "does not hold a training state that fits this run" in sentence(*saved(**changes))


def test_generators_that_are_none_are_one_sentence() -> None:
    for wrong in ({}, {"rng.cpu": torch.zeros(3, dtype=torch.uint8)}, {"rng.cpu": torch.zeros(5000)}):
        checkpoint, model, optimizer = saved()
        tensors = {key: value for key, value in checkpoint.tensors.items() if not key.startswith("rng.")}
        assert "fits this run" in sentence(Checkpoint({**tensors, **wrong}, checkpoint.state), model, optimizer)


def test_a_state_of_an_earlier_version_is_read() -> None:
    checkpoint, model, optimizer = saved()
    for name in ("columns", "levels", "fingerprint"):
        del checkpoint.state[name]
    checkpoint.state["unheard_of"] = 1
    state = TrainingState.restore(checkpoint, model, optimizer, "run/latest")
    assert state == TrainingState(shape=[3], step=7, best_valid=-1.5)


def test_a_damaged_file_of_a_run_is_one_sentence(tmp_path: Path) -> None:
    """All the way: the state is written to a checkpoint, and refused as it comes back."""
    checkpoint, model, optimizer = saved(step=-4)
    (tmp_path / "checkpoints").mkdir()
    run = RunDirectory(tmp_path)
    run.save_checkpoint("latest", checkpoint)
    said = sentence(run.load_checkpoint("latest"), model, optimizer)
    assert "is damaged: 'step' is -4, and should be a whole number from 0" in said
