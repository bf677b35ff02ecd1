"""Data in pieces: together they are the data, none is too large, and sums over them are those of double precision."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.data import pieces as module
from cifrun.data.pieces import coordinates, pieces, total, values


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 30), st.lists(st.integers(1, 4), max_size=3), st.integers(1, 40))
def test_pieces_are_the_data_in_order_and_none_is_too_large(count: int, shape: list[int], most: int) -> None:
    x = torch.arange(float(count * torch.Size(shape).numel())).view(count, *shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "AT_ONCE", most)
        found = list(pieces(x))
    assert torch.equal(torch.cat([x[:0], *found]), x)
    assert all(len(piece) == 1 or 0 < piece.numel() <= most for piece in found)
    assert all(piece.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() for piece in found)


def test_values_of_a_channel_stand_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 24)  # two events
    x = torch.randn(5, 3, 2, 2)
    found = list(values(x))
    assert [piece.shape for piece in found] == [(3, 8), (3, 8), (3, 4)]
    assert torch.equal(torch.cat(found, 1), x.permute(1, 0, 2, 3).flatten(1))


def test_a_sum_loses_nothing_that_single_precision_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    x = torch.tensor([[2.0**24], [1.0], [1.0]])  # in single precision 2²⁴ + 1 is 2²⁴
    assert total(piece.sum(1) for piece in coordinates(x)).tolist() == [2**24 + 2]
    assert total([]).item() == 0
