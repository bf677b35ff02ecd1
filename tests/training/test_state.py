"""The order of the data, and the training state's way to a checkpoint and back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.config.schema import OptimizerConfig, TrainerConfig
from cifrun.runs.directory import RunDirectory
from cifrun.training.optim import build_optimizer, learning_rate
from cifrun.training.state import Batches, TrainingState


def small(
    monkeypatch: pytest.MonkeyPatch, count: int, batch_size: int, seed: int, block: int | None, large: int
) -> Batches:
    """Batches whose orders are keyed permutations beyond `large` data."""
    monkeypatch.setattr("cifrun.data.order.permutation.LARGE", large)
    return Batches(count, batch_size, seed, block, window=3)


KINDS = [(None, 2**24), (None, 0), (5, 2**24), (5, 0)]


@pytest.mark.parametrize(("block", "large"), KINDS)
@given(st.integers(1, 90), st.integers(1, 60), st.integers(0, 2**40), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_every_datum_comes_once_an_epoch(block, large, count, batch_size, seed, epochs):
    with pytest.MonkeyPatch.context() as patch:
        batches = small(patch, count, batch_size, seed, block, large)
        steps = -(-epochs * count // batches.size)
        stream = torch.cat([batches.indices(k) for k in range(steps)])
    assert len(stream) == steps * batches.size
    for epoch in range(epochs):
        assert sorted(stream[epoch * count : (epoch + 1) * count].tolist()) == list(range(count))


@pytest.mark.parametrize(("block", "large"), KINDS)
def test_order_is_a_function_of_seed_and_step(block, large, monkeypatch):
    def fresh(seed=3, batch_size=7):
        return small(monkeypatch, 50, batch_size, seed, block, large)

    forward = [fresh().indices(k).tolist() for k in range(30)]
    again = fresh()
    assert [again.indices(k).tolist() for k in reversed(range(30))] == forward[::-1]
    assert fresh(seed=4).indices(0).tolist() != forward[0]
    assert fresh(batch_size=50).indices(0).tolist() != fresh(batch_size=50).indices(1).tolist()


def test_the_order_of_few_data_is_that_of_earlier_versions():
    """A run of the first version, continued with this one, goes on in its order."""
    order = torch.randperm(50, generator=torch.Generator().manual_seed(3 * 0x9E3779B1 + 1))
    assert torch.equal(Batches(50, 25, 3).indices(2), order[:25])


def test_a_window_holds_few_blocks_and_the_epoch_all_of_them():
    """1000 data in blocks of 10 neighbours, 4 of them at once: each 40 places of an epoch hold at most 4 passages."""
    batches = Batches(1000, 40, 0, block=10, window=4)
    first, second = (torch.stack([batches.indices(25 * epoch + k) for k in range(25)]) for epoch in (0, 1))
    ordered = first.sort(1).values
    gaps = ((ordered - ordered.roll(1, 1)) % 1000 != 1).sum(1)  # a passage may go on from the last datum to the first
    assert gaps.max() <= 4 and gaps.float().mean() > 3
    assert (first != ordered).any(1).all(), "shuffled within"
    assert ordered.float().std(1).mean() > 200, "from all over the data, whose standard deviation is 289"
    assert len(set(map(tuple, ordered.tolist())) & set(map(tuple, second.sort(1).values.tolist()))) == 0


def test_a_window_is_announced_before_it_is_read():
    announced: list[torch.Tensor] = []
    batches = Batches(1003, 17, 0, block=10, window=4, prefetch=announced.append)
    known = 0
    for step in range(150):
        rows = batches.indices(step)
        recent = torch.cat(announced[-2:])
        assert torch.isin(rows // 10 * 10, recent).all()
        assert len(announced) - known <= 2
        known = len(announced)
    assert known == 26 + 26 + 14, "two epochs of 1003 data, and 544 of the third, in windows of 40"
    assert all(len(starts) <= 4 for starts in announced)


def test_large_data_are_shuffled_in_blocks(monkeypatch):
    x = torch.zeros(4000, 4)
    monkeypatch.setattr("cifrun.training.state.BLOCK", 160)
    assert Batches.of(x, TrainerConfig(), 0).block is None
    assert Batches.of(x, TrainerConfig(shuffle="blocks"), 0).block == 10
    monkeypatch.setattr("cifrun.training.state.IN_MEMORY", 10_000)
    assert Batches.of(x, TrainerConfig(), 0).block == 10
    assert Batches.of(x, TrainerConfig(shuffle="rows"), 0).block is None


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
