"""Planar maps: the gradient written out by hand against the formulas, shared by all rows or each row's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cifrun.bijections.planar import _plain, planar_forward


def arguments(features: int, rows: int, shared: bool, scale: float = 1.0, seed: int = 0) -> list[Tensor]:
    """x, u, w and b, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    own = () if shared else (rows,)
    shapes = (rows, features), (*own, features), (*own, features), own
    return [(scale * torch.randn(s, generator=generator, dtype=torch.float64)).requires_grad_() for s in shapes]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("features", [1, 2, 5])
def test_the_gradient_and_its_gradient(features: int, shared: bool) -> None:
    inputs = arguments(features, 4, shared)
    assert torch.autograd.gradcheck(planar_forward, inputs)
    assert torch.autograd.gradgradcheck(planar_forward, inputs)


@given(
    st.integers(1, 6), st.integers(0, 5), st.booleans(), st.sampled_from([1e-3, 1.0, 10.0]), st.integers(0, 2**32 - 1)
)
def test_the_same_as_the_formulas(features: int, rows: int, shared: bool, scale: float, seed: int) -> None:
    inputs = arguments(features, rows, shared, scale, seed)
    weights = torch.randn(rows, features, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found, expected = [], []
    for function, results in ((planar_forward, found), (_plain, expected)):
        z, log_det = function(*inputs)
        results += [z, log_det, *torch.autograd.grad((z * weights).sum() + log_det.sum(), inputs)]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
