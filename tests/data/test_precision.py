"""What single precision takes away matters where numbers are large beside how much they vary, and are no multiples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifrun.data.precision import Rounding, loses

X = torch.randn(400, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("scale", "shift", "lost"), [(1, 0, False), (10, 5e6, True), (1, 1e8, True), (1, 100, False)])
def test_times_and_coordinates_lose_what_others_do_not(scale: float, shift: float, lost: bool) -> None:
    assert loses(scale * X + shift) is lost
    assert loses(torch.stack([X[:, 0], scale * X[:, 1] + shift], 1)) is lost


@given(st.floats(-12, 12), st.floats(-300, 300))
def test_numbers_near_what_they_vary_by_lose_nothing(log_scale: float, shift: float) -> None:
    assert not loses(10**log_scale * (X + shift))


def test_nothing_is_lost_of_what_is_in_single_precision_already() -> None:
    assert not loses((X + 1e8).float().double()) and not loses((1e6 + 10 * X).round())
    assert not loses(torch.full((5, 2), 0.1, dtype=torch.float64)) and not loses(X[:0])


def test_batches_add_up() -> None:
    rounding = Rounding()
    for part in (X * 10 + 5e6).split(7):
        rounding.add(list(part.T.numpy()))
    assert rounding.matters
    rounding = Rounding()
    rounding.add([np.empty(0)])
    assert not rounding.matters
