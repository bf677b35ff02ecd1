"""What a run says of itself can be read back, and names no setting that decides nothing about the model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cifrun import build
from cifrun.config.roles import flattened
from cifrun.config.schema import to_dict
from cifrun.runs import summary as kinds
from cifrun.runs.validation import check
from cifrun.training import summary
from cifrun.training.training_state import TrainingState
from tests.helpers import small_config


@pytest.fixture(autouse=True)
def _git_is_asked_anew() -> Iterator[None]:
    """A process asks it once."""
    summary._git_commit.cache_clear()
    yield
    summary._git_commit.cache_clear()


HEAD = {name: words for name, words in kinds.KINDS.items() if name != "test"}


class Git:
    """What stands in for `subprocess.run` of git: answers by the first word, or an error."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[list[str]] = []

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.asked.append(command)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(command, 0, answer, "")


def test_a_summary_is_what_its_readers_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", Git("summary.py\n", "0123abc\n"))
    config = small_config("maf", True, seed=5)
    model = build.build_model(config, (2,))
    state = TrainingState([2], step=40, skipped=3, best_valid=-1.5, wall_seconds=2.5)
    state.fingerprint, state.warnings = "f00", ["few"]
    told = json.loads(json.dumps(summary.summarise(config, model, state, "running")))
    check(told, HEAD, "summary.json", complete=True)
    assert told.keys() == HEAD.keys()
    assert told.pop("versions").keys() == {"cifrun", "python", "torch"}
    assert told == {
        "status": "running", "error": None, "dataset": "two_uniforms",
         "data_fingerprint": "f00", "data_warnings": ["few"],
        "flow": "maf", "cif": True, "seed": 5,
        "parameters": torch.nn.utils.parameters_to_vector(model.parameters()).numel(), "steps": 40,
        "skipped_steps": 3, "best_valid_log_likelihood": -1.5, "wall_seconds": 2.5, "device": "cpu",
        "git_commit": "0123abc",
    }  # fmt: skip


@pytest.mark.parametrize(
    "answers",
    [
        [FileNotFoundError("git")],
        [subprocess.CalledProcessError(128, "git")],  # in no checkout, or in one of something else
        [subprocess.TimeoutExpired("git", 5)],
        ["summary.py", subprocess.CalledProcessError(128, "git")],  # before the first commit
    ],
    ids=["no git", "not its own", "too slow", "no commit"],
)
def test_without_a_checkout_of_its_own_there_is_no_commit(
    answers: list[str | Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    git = Git(*answers)
    monkeypatch.setattr(subprocess, "run", git)
    config = small_config("affine", False)
    told = summary.summarise(config, build.build_model(config, (2,)), TrainingState([2]), "running")
    assert told["git_commit"] is None and git.answers == []
    check(told, HEAD, "summary.json", complete=True)


def test_hyperparameters_are_plain_values_of_what_is_trained_and_of_its_repetition() -> None:
    config = small_config("realnvp", True, index={"depth": "all", "dim": 3}, trainer={"max_steps": 7})
    told = summary.hyperparameters(config)
    settings = flattened(to_dict(config))
    assert all(type(value) in (bool, int, float, str) for value in told.values())
    assert {name: told[name] for name in ("seed", "dataset.seed", "flow.depth", "index.dim", "trainer.max_steps")} == {
        name: settings[name] for name in ("seed", "dataset.seed", "flow.depth", "index.dim", "trainer.max_steps")
    }
    assert told["flow.hidden"] == "[16, 16]" and told["index.depth"] == "all" and told["cif"] is True
    left = settings.keys() - told.keys()
    assert {"trainer.progress", "eval.importance_samples", "device.accelerator", "run", "n", "output"} <= left


def test_a_setting_that_is_null_is_no_hyperparameter() -> None:
    """TensorBoard would make texts of all its numbers."""
    config = small_config("maf", True)
    config.optimizer.max_grad_norm = None
    found = summary.hyperparameters(config)
    assert "optimizer.max_grad_norm" not in found and isinstance(found["optimizer.lr"], float)
