"""Adam as cifrun steps it: torch's own fused one, to the bit, whatever happens in between."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from cifrun.config.schema import OptimizerConfig
from cifrun.training.optim import FusedAdam, adam

SHAPES = [(4, 3), (4,), (1,), (7, 2, 3, 3), ()]


def pair(dtype: torch.dtype = torch.float32) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    generator = torch.Generator().manual_seed(0)
    first = [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in SHAPES]
    return first, copy.deepcopy(first)


def gradients(step: int, parameters: list[nn.Parameter], missing: frozenset[int] = frozenset()) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for k, p in enumerate(parameters):
        grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        p.grad = None if k in missing else grad


def same(a: list[nn.Parameter], b: list[nn.Parameter]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_it_is_torchs_adam(dtype: torch.dtype, decay: float) -> None:
    """With rates that change, parameters without a gradient, a parameter more, and a state saved and restored."""
    ours, theirs = pair(dtype)
    config = OptimizerConfig(lr=0.01, weight_decay=decay)
    a = adam(ours, config)
    b = torch.optim.Adam(theirs, lr=0.01, weight_decay=decay, fused=True)
    assert isinstance(a, FusedAdam)
    for step in range(30):
        missing = frozenset({1, 3}) if step in (4, 5, 20) else frozenset()
        gradients(step, ours, missing)
        gradients(step, theirs, missing)
        for optimizer in (a, b):
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
        if step in (8, 22):
            file = io.BytesIO()
            torch.save(a.state_dict(), file)
            file.seek(0)
            a = adam(ours, config)
            a.load_state_dict(torch.load(file, weights_only=True))
        if step == 15:
            a.load_state_dict(copy.deepcopy(b.state_dict()))
        if step == 25:
            for optimizer, parameters in ((a, ours), (b, theirs)):
                parameters.append(nn.Parameter(torch.ones(2, dtype=dtype)))
                optimizer.add_param_group({"params": parameters[-1:]})
            gradients(step, ours)
            gradients(step, theirs)
        a.step()
        b.step()
        assert same(ours, theirs), step
    for p, q in zip(ours, theirs, strict=True):
        for key, value in b.state[q].items():
            assert torch.equal(a.state[p][key], value), key


def test_the_short_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own step runs once, and again when gradients are missing."""
    calls = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, closure=None: calls.append(1) or step(self, closure))
    ours, _ = pair()
    optimizer = adam(ours, OptimizerConfig())
    counts = []
    for k in range(6):
        gradients(k, ours, frozenset({2}) if k == 3 else frozenset())
        optimizer.step()
        counts.append(len(calls))
    assert counts == [1, 1, 1, 2, 3, 3]


def test_a_copy_steps_by_itself() -> None:
    ours, _ = pair()
    optimizer = adam(ours, OptimizerConfig())
    for k in range(3):
        gradients(k, ours)
        optimizer.step()
    others, twin = copy.deepcopy((ours, optimizer))
    before = [p.detach().clone() for p in ours]
    gradients(9, others)
    twin.step()
    assert same(ours, [nn.Parameter(p) for p in before]) and not same(ours, others)
    gradients(9, ours)
    optimizer.step()
    assert same(ours, others)
    assert all(float(state["step"]) == 4 for state in (*optimizer.state.values(), *twin.state.values()))


def test_what_a_closure_gives_comes_back() -> None:
    ours, _ = pair()
    optimizer = adam(ours, OptimizerConfig())
    for _ in range(3):
        loss = optimizer.step(lambda: gradients(0, ours) or 1.5)
        assert loss == 1.5
