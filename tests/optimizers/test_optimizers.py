"""Optimisers by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cifrun.config.schema import OptimizerConfig
from cifrun.registry import OPTIMIZERS

#: Those whose decay of the weights does not go through the gradient.
DECOUPLED = ("adamw", "muon", "soap")


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_an_optimiser_finds_the_minimum_of_a_quadratic(name: str) -> None:
    """|w − a|², whose minimum is a; with a penalty |w|²·decay/2 it is a·2/(2 + decay) for those that add it."""
    goal = torch.tensor([1.0, -2.0])
    for decay, minimum in ((0.0, goal), (2.0, goal / 2)):
        weights = nn.Parameter(torch.zeros(2))
        lr = 0.1 if name == "muon" else 0.02  # of which vectors have a fifth
        optimizer = OPTIMIZERS[name]([weights], OptimizerConfig(name=name, lr=lr, weight_decay=decay))
        for _ in range(1000):
            optimizer.zero_grad()
            (weights - goal).square().sum().backward()
            optimizer.step()
        if name not in DECOUPLED or decay == 0:  # its decay is apart from the gradient, and so is where it ends
            torch.testing.assert_close(weights.detach(), minimum, atol=0.05, rtol=0)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_an_optimiser_finds_matrices_and_kernels(name: str) -> None:
    torch.manual_seed(0)
    goals = [torch.randn(4, 3), torch.randn(3), torch.randn(2, 3, 2, 2), torch.randn(())]
    weights = [nn.Parameter(torch.zeros_like(goal)) for goal in goals]
    optimizer = OPTIMIZERS[name](weights, OptimizerConfig(name=name, lr=0.05))
    for k in range(1000):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - k / 1000) * group.get("share", 1.0)
        optimizer.zero_grad()
        sum((w - goal).square().sum() for w, goal in zip(weights, goals, strict=True)).backward()
        optimizer.step()
    for w, goal in zip(weights, goals, strict=True):
        torch.testing.assert_close(w.detach(), goal, atol=0.05, rtol=0)


def test_the_optimisers_are_these() -> None:
    assert list(OPTIMIZERS) == ["adam", "adamax", "adamw", "muon", "sgd", "soap"]
