"""One update: it is the optimiser's step on minus the objective, and a bad one changes nothing."""

import copy

import pytest
import torch
from torch import nn

from cifrun.build import build_model
from cifrun.compose import configure
from cifrun.device import launch
from cifrun.registry import OBJECTIVES, OPTIMIZERS
from cifrun.state import TrainingState
from cifrun.update import Update

TINY = ["dataset=rings", "flow=maf", "flow.depth=2", "flow.hidden=[8]", "device=cpu"]


def update(*overrides):
    config = configure([*TINY, *overrides])
    model = build_model(config, (2,))
    return model, Update(model, config, launch(config.device))


def test_it_is_a_step_of_adam():
    model, step = update("cif=false")
    twin = copy.deepcopy(model)
    x = torch.randn(50, 2)
    adam = torch.optim.Adam(twin.parameters(), lr=0.01)
    for _ in range(3):
        outcome = step(x, 0.01)
        loss = -twin.log_w(x).mean()
        adam.zero_grad()
        loss.backward()
        torch.testing.assert_close(outcome.loss, loss.detach())
        torch.testing.assert_close(outcome.elbo, -loss.detach())
        norm = torch.cat([p.grad.flatten() for p in twin.parameters()]).norm()
        torch.testing.assert_close(outcome.grad_norm, norm)
        adam.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_are_clipped_to_a_norm():
    model, step = update("cif=true", "optimizer.max_grad_norm=0.001", "optimizer=sgd")
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    outcome = step(torch.randn(50, 2), 1.0)
    moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    assert outcome.grad_norm > 0.001
    torch.testing.assert_close(moved.norm(), torch.tensor(0.001), rtol=1e-3, atol=0)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_bad_update_leaves_weights_and_moments_alone(optimizer):
    model, step = update("cif=true", f"optimizer={optimizer}")
    step(torch.randn(50, 2), 0.01)
    saved = copy.deepcopy((model.state_dict(), step.optimizer.state_dict()["state"]))
    state = TrainingState()
    for n in (1, 2):
        step(torch.full((50, 2), float("nan")), 0.01)
        step.count(state)
        assert (state.skipped, state.bad_steps) == (n, n)
    now = (model.state_dict(), step.optimizer.state_dict()["state"])
    assert all(torch.equal(now[0][key], value) for key, value in saved[0].items())
    for key, entries in saved[1].items():
        for name, value in entries.items():
            torch.testing.assert_close(now[1][key][name], value)
    step(torch.randn(50, 2), 0.01)
    step.count(state)
    assert (state.skipped, state.bad_steps) == (2, 0)


def test_an_optimiser_that_is_not_fused_skips_too():
    name = "plain_sgd_for_a_test"
    OPTIMIZERS._entries[name] = lambda parameters, config: torch.optim.SGD(parameters, lr=config.lr)
    try:
        model, step = update("cif=false", f"optimizer.name={name}")
        before = [p.detach().clone() for p in model.parameters()]
        step(torch.full((50, 2), float("nan")), 0.1)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
        step(torch.randn(50, 2), 0.1)
        assert not all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    finally:
        del OPTIMIZERS._entries[name]


def test_counts_go_on_from_a_state():
    _, step = update("cif=false")
    step.start_from(TrainingState(skipped=5, bad_steps=2))
    state = TrainingState()
    step.count(state)
    assert (state.skipped, state.bad_steps) == (5, 2)


def test_a_state_from_an_optimiser_that_was_not_fused():
    model, step = update("cif=false")
    x = torch.randn(50, 2)
    plain = torch.optim.Adam(model.parameters())
    model.log_w(x).mean().backward()
    plain.step()
    step.optimizer.load_state_dict(plain.state_dict())
    step.start_from(TrainingState())
    assert step(x, 0.01).loss.isfinite()


def test_every_objective_of_the_registry_is_maximised():
    for name in OBJECTIVES:
        model, step = update("cif=true", f"objective.name={name}", "objective.importance_samples=3", "seed=1")
        x = torch.randn(200, 2)
        first = step(x, 0.01).loss
        for _ in range(30):
            last = step(x, 0.01).loss
        assert last < first
        assert isinstance(model, nn.Module)
