"""Every test of the command line starts in an empty directory; `calls` and `run` stand in for training and its runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cifrun.cli.jobs import COMMANDS
from cifrun.compute.slurm import STOPS
from cifrun.config.schema import Config
from cifrun.errors import TrainingError
from tests.cli.helpers import Call, write_run


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The empty directory. Small models are trained by one thread, here and in the processes that a test starts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What the verbs were called with; training leaves a `config.yaml`, and nothing else happens."""
    made: list[Call] = []

    def train(config: Config, directory: Path) -> dict[str, Any]:
        made.append(("resume" if config.resume else "train", directory, config))
        if config.optimizer.lr == 13:
            raise TrainingError("the loss was not finite")
        if not config.resume:
            write_run(config, directory)
        return {"best_valid_log_likelihood": -1.5}

    monkeypatch.setitem(COMMANDS, "train", train)
    for verb in ("eval", "sample"):
        note = lambda config, directory, verb=verb: made.append((verb, directory, config))  # noqa: E731
        monkeypatch.setitem(COMMANDS, verb, note)
    return made


@pytest.fixture
def run(calls: list[Call], tmp_path: Path) -> Path:
    """A run that is unlike the defaults in every group."""
    data = {
        "dataset": {"name": "rings", "num_test": 50},
        "flow": {"family": "maf", "depth": 3},
        "cif": False,
        "optimizer": {"name": "sgd"},
        "trainer": {"max_steps": 3},
        "eval": {"chunk_size": 77},
        "device": {"accelerator": "cpu"},
        "seed": 5,
        "n": 9,
    }
    write_run(Config.parse(data), tmp_path / "a run")
    (tmp_path / "a run" / "metrics.jsonl").touch()  # it has begun
    return tmp_path / "a run"


@pytest.fixture(autouse=True)
def _signal_handlers() -> Iterator[None]:
    """An engine that runs in this process may leave handlers of its own behind, as Ray does."""
    before = {number: signal.getsignal(number) for number in STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
