"""Whitening: a triangular map with fixed numbers, exact in both directions, saved with the weights."""

from __future__ import annotations

import pytest
import torch

from cifrun.bijections.preprocess.standardize import Whiten
from cifrun.build import first_step, kind_of
from tests.helpers import autograd_log_det


def whiten(dim: int) -> Whiten:
    generator = torch.Generator().manual_seed(dim)
    factor = torch.randn(dim, dim, generator=generator).tril(-1) + torch.rand(dim, generator=generator).add(0.1).diag()
    return Whiten((dim,), torch.randn(dim, generator=generator), factor).double()


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_inverse_and_log_det(dim: int) -> None:
    step = whiten(dim)
    x = torch.randn(50, dim, generator=torch.Generator().manual_seed(0)).double()
    z, log_det = step(x)
    torch.testing.assert_close(step.inverse(z), x)
    torch.testing.assert_close(log_det, autograd_log_det(step, x))
    assert not list(step.parameters())


def test_numbers_come_back_with_the_weights() -> None:
    step = whiten(3).float()
    blank = first_step((3,), kind_of(step))
    assert isinstance(blank, Whiten)
    blank.load_state_dict(step.state_dict())
    x = torch.randn(5, 3)
    assert torch.equal(blank(x)[0], step(x)[0])
    assert first_step((3,), kind_of(None)) is None
