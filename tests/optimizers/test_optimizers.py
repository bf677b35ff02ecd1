"""Optimisers by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cifrun.config.schema import OptimizerConfig
from cifrun.registry import OPTIMIZERS


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_an_optimiser_finds_the_minimum_of_a_quadratic(name: str) -> None:
    """|w − a|², whose minimum is a; with a penalty |w|²·decay/2 it is a·2/(2 + decay) for those that add it."""
    goal = torch.tensor([1.0, -2.0])
    for decay, minimum in ((0.0, goal), (2.0, goal / 2)):
        weights = nn.Parameter(torch.zeros(2))
        optimizer = OPTIMIZERS[name]([weights], OptimizerConfig(name=name, lr=0.02, weight_decay=decay))
        for _ in range(1000):
            optimizer.zero_grad()
            (weights - goal).square().sum().backward()
            optimizer.step()
        if name != "adamw" or decay == 0:  # its decay is apart from the gradient, and so is where it ends
            torch.testing.assert_close(weights.detach(), minimum, atol=0.05, rtol=0)


def test_the_optimisers_are_these() -> None:
    assert list(OPTIMIZERS) == ["adam", "adamw", "sgd"]
