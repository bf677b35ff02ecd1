"""The order of the data, and the training state's way to a checkpoint and back."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.config import OptimizerConfig, TrainerConfig
from cifrun.optim import build_optimizer, learning_rate
from cifrun.run import RunDirectory
from cifrun.state import Batches, TrainingState


@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 2**40), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_every_datum_comes_once_an_epoch(count, batch_size, seed, epochs):
    batches = Batches(count, batch_size, seed)
    size = min(count, batch_size)
    steps = -(-epochs * count // size)
    stream = torch.cat([batches.indices(k) for k in range(steps)])
    for epoch in range(epochs):
        assert sorted(stream[epoch * count : (epoch + 1) * count].tolist()) == list(range(count))


def test_order_is_a_function_of_seed_and_step():
    forward = [Batches(50, 7, 3).indices(k).tolist() for k in range(30)]
    fresh = Batches(50, 7, 3)
    assert [fresh.indices(k).tolist() for k in reversed(range(30))] == forward[::-1]
    assert Batches(50, 7, 4).indices(0).tolist() != forward[0]
    assert Batches(50, 50, 3).indices(0).tolist() != Batches(50, 50, 3).indices(1).tolist()


def test_state_goes_to_a_file_and_back(tmp_path):
    model = torch.nn.Linear(3, 2)
    for name in ("adam", "adamw", "sgd"):
        optimizer = build_optimizer(model.parameters(), OptimizerConfig(name=name))
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        state = TrainingState(shape=[3], step=7, skipped=1, best_valid=-1.5, wall_seconds=2.5)
        run = RunDirectory(tmp_path)
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        run.save_checkpoint("latest", state.checkpoint(model, optimizer))
        draw = torch.rand(4)

        other = torch.nn.Linear(3, 2)
        twin = build_optimizer(other.parameters(), OptimizerConfig(name=name))
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


def test_learning_rate_is_a_function_of_the_step():
    config = OptimizerConfig(lr=1.0, schedule="cosine", warmup_steps=4)
    rates = [learning_rate(config, k, 14) for k in range(14)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0 and rates[4:] == sorted(rates[4:], reverse=True) and 0 < rates[-1] < 0.05
    assert learning_rate(config, 9, 14) == 0.5  # half-way down
    assert [learning_rate(OptimizerConfig(lr=0.1), k, 5) for k in range(5)] == [0.1] * 5
