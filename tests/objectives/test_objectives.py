"""Objectives: bounds on log p(x), in order, and equal where they should be."""

from __future__ import annotations

import math

import pytest
import torch

from cifrun.objectives.elbo import elbo
from cifrun.objectives.iwae import iwae
from cifrun.registry import OBJECTIVES

LOG_W = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_an_objective_is_a_number_of_each_datum_and_of_one_draw_its_log_weight(name: str) -> None:
    assert OBJECTIVES[name](LOG_W).shape == (5,)
    torch.testing.assert_close(OBJECTIVES[name](LOG_W[:1]), LOG_W[0])


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_a_constant_weight_is_the_objective_itself(name: str) -> None:
    constant = torch.full((4, 3), -1.25, dtype=torch.float64)
    torch.testing.assert_close(OBJECTIVES[name](constant), constant[0])


def test_the_importance_weighted_bound_is_the_tighter_one() -> None:
    assert (iwae(LOG_W) > elbo(LOG_W)).all()
    torch.testing.assert_close(iwae(LOG_W), LOG_W.exp().mean(0).log())
    assert math.isfinite(iwae(LOG_W - 2000).sum().item())
