"""The order of the data: a function of seed and step, in which each datum comes once an epoch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.data.order.batches import Batches


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
