"""Permutations permute, by a seed."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.bijections.permutation import Permutation


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 10**6))
def test_permutations_permute(size: int, seed: int) -> None:
    permutation = Permutation((size,), torch.Generator().manual_seed(seed))
    again = Permutation((size,), torch.Generator().manual_seed(seed))
    assert torch.equal(permutation.order, again.order)
    assert sorted(permutation.order.tolist()) == list(range(size))
    assert size == 1 or permutation.order.tolist() != list(range(size))
