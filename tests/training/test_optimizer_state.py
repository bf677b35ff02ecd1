"""The state of an optimiser comes back only into one like it: a fused one would read beyond the ends of another's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cifrun.config.schema import OptimizerConfig
from cifrun.errors import RunError
from cifrun.registry import OPTIMIZERS
from cifrun.runs.checkpoint import Checkpoint
from cifrun.training.training_state import TrainingState


def trained(name: str, steps: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A small model after some steps; one of its weights never has a gradient."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"used": nn.Linear(3, 2), "conv": nn.Conv2d(2, 4, 3), "unused": nn.Linear(2, 2)})
    optimizer = OPTIMIZERS[name](model.parameters(), OptimizerConfig(weight_decay=0.1))
    for _ in range(steps):
        optimizer.zero_grad()
        (
            model["used"](torch.ones(5, 3)).square().sum() + model["conv"](torch.ones(1, 2, 4, 4)).square().sum()
        ).backward()
        optimizer.step()
    return model, optimizer


def restored(name: str, checkpoint: Checkpoint) -> tuple[nn.Module, torch.optim.Optimizer]:
    model, optimizer = trained(name, 0)
    TrainingState.restore(checkpoint, model, optimizer, "run/latest")
    return model, optimizer


def saved(name: str) -> Checkpoint:
    return TrainingState(shape=[3], step=3).checkpoint(*trained(name))


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_a_state_comes_back_as_it_was_and_so_do_the_weights(name: str) -> None:
    model, optimizer = trained(name)
    checkpoint = TrainingState(shape=[3], step=3).checkpoint(model, optimizer)
    other, twin = restored(name, checkpoint)
    torch.testing.assert_close(twin.state_dict(), optimizer.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(other.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert all(p.grad is None for p in other.parameters())


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "cut": lambda t: t[..., :1].clone() if t.dim() else t.reshape(1),
    "longer": lambda t: torch.cat([t, t]) if t.dim() else torch.stack([t, t]),
    "flat": lambda t: t.reshape(-1) if t.dim() > 1 else t.reshape(1, -1),
    "empty": lambda t: t.reshape(-1)[:0].clone(),
    "whole numbers": lambda t: t.long(),
    "complex": lambda t: t.to(torch.complex64),
    "NaN": lambda t: torch.full_like(t, torch.nan),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_a_tensor_of_another_shape_or_kind_is_refused(name: str, change: str) -> None:
    checkpoint = saved(name)
    keys = [key for key in checkpoint.tensors if key.startswith("optimizer.")]
    for key in keys:
        before, after = checkpoint.tensors[key], CHANGES[change](checkpoint.tensors[key])
        if change != "NaN" and before.shape == after.shape and before.dtype == after.dtype:
            continue
        tensors = {**checkpoint.tensors, key: after}
        with pytest.raises(RunError, match="does not hold a training state that fits this run"):
            restored(name, Checkpoint(tensors, checkpoint.state))


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_a_tensor_that_is_missing_or_too_many_is_refused(name: str) -> None:
    checkpoint = saved(name)
    keys = [key for key in checkpoint.tensors if key.startswith("optimizer.")]
    alone = [key for key in keys if sum(other.split(".")[1] == key.split(".")[1] for other in keys) == 1]
    some = torch.zeros(2)
    wrong = [{k: v for k, v in checkpoint.tensors.items() if k != key} for key in keys if key not in alone]
    wrong += [{**checkpoint.tensors, f"optimizer.{key}": some} for key in ("0.more", "17.exp_avg", "0", "x.y")]
    for tensors in wrong:
        with pytest.raises(RunError, match="does not hold a training state that fits this run"):
            restored(name, Checkpoint(tensors, checkpoint.state))


@pytest.mark.parametrize("name", ["adam", "adamax", "muon"])
def test_a_count_of_steps_that_is_none_is_refused(name: str) -> None:
    checkpoint = saved(name)
    for value in (-1.0, -1e9, torch.inf):
        for key in (key for key in checkpoint.tensors if key.endswith(".step")):
            tensors = {**checkpoint.tensors, key: torch.tensor(value)}
            with pytest.raises(RunError, match="does not hold a training state that fits this run"):
                restored(name, Checkpoint(tensors, checkpoint.state))


def test_what_the_steps_of_soap_count_comes_back_or_is_refused() -> None:
    checkpoint = saved("soap")
    assert restored("soap", checkpoint)[1].param_groups[0]["step"] == 3
    for value in (-1, 1.5, None, True, "3", 2**70):
        groups = [{**group, "step": value} for group in checkpoint.state["param_groups"]]
        with pytest.raises(RunError, match="does not hold a training state that fits this run"):
            restored("soap", Checkpoint(checkpoint.tensors, {**checkpoint.state, "param_groups": groups}))


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_a_switch_in_a_checkpoint_switches_nothing(name: str) -> None:
    """One such as amsgrad would ask for moments that are not there."""
    checkpoint = saved(name)
    groups = [
        {key: not value if isinstance(value, bool) else value for key, value in group.items()}
        for group in checkpoint.state["param_groups"]
    ]
    _, optimizer = restored(name, Checkpoint(checkpoint.tensors, {**checkpoint.state, "param_groups": groups}))
    own = trained(name, 0)[1].param_groups
    for group, built in zip(optimizer.param_groups, own, strict=True):
        assert {k: group[k] for k in built if k != "params"} == {k: v for k, v in built.items() if k != "params"}
    optimizer.step()
