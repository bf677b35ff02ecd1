"""One update: it is the optimiser's step on minus the objective, and a bad one changes nothing."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from cifrun.build import build_model
from cifrun.cif.memory import SHARE_OF_TRAINING
from cifrun.cli.hydra_app import configure
from cifrun.compute.device import launch
from cifrun.registry import OBJECTIVES, OPTIMIZERS
from cifrun.training.training_state import TrainingState

from .updates import UpdateOn

TINY = ["dataset=rings", "flow=maf", "flow.depth=2", "flow.hidden=[8]", "device=cpu"]


def update(*overrides):
    """A model, and what updates it with all of a batch x and a learning rate."""
    config = configure([*TINY, *overrides])
    model = build_model(config, (2,))
    return model, UpdateOn(model, config, launch(config.device))


def test_it_is_a_step_of_adam():
    model, step = update("cif=false", "optimizer=adam")
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


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon", "sgd"])
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
    OPTIMIZERS.register(name)(lambda parameters, config: torch.optim.SGD(parameters, lr=config.lr))
    try:
        model, step = update("cif=false", f"optimizer.name={name}")
        before = [p.detach().clone() for p in model.parameters()]
        step(torch.full((50, 2), float("nan")), 0.1)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
        step(torch.randn(50, 2), 0.1)
        assert not all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    finally:
        del OPTIMIZERS._entries[name], OPTIMIZERS._values[name]


def test_counts_go_on_from_a_state():
    _, step = update("cif=false")
    step.start_from(TrainingState(skipped=5, bad_steps=2))
    state = TrainingState()
    step.count(state)
    assert (state.skipped, state.bad_steps) == (5, 2)


def test_a_state_from_an_optimiser_that_was_not_fused():
    model, step = update("cif=false", "optimizer=adam")
    x = torch.randn(50, 2)
    plain = torch.optim.Adam(model.parameters())
    model.log_w(x).mean().backward()
    plain.step()
    step.optimizer.load_state_dict(plain.state_dict())
    step.start_from(TrainingState())
    assert step(x, 0.01).loss.isfinite()


def test_every_objective_of_the_registry_is_maximised():
    for name in OBJECTIVES:
        model, step = update("cif=true", f"objective={name}", "objective.importance_samples=3", "seed=1")
        x = torch.randn(200, 2)
        first = step(x, 0.01).loss
        for _ in range(30):
            last = step(x, 0.01).loss
        assert last < first
        assert isinstance(model, nn.Module)


def test_micro_batches_are_as_many_as_memory_asks_for(monkeypatch):
    """What a pass keeps for backward, measured on a few rows, tells what it keeps of many."""
    config = configure([*TINY, "cif=true", "trainer.micro_batches=auto"])
    model = build_model(config, (2,))
    kept = {}
    for rows in (100, 400):
        pack = lambda x, k=rows: kept.setdefault(k, {}).setdefault(x.untyped_storage().data_ptr(), x)  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            model.log_w(torch.randn(rows, 2)).sum()
    sizes = {k: sum(x.untyped_storage().nbytes() for x in tensors.values()) for k, tensors in kept.items()}
    a_row = (sizes[400] - sizes[100]) / 300
    # Room for what 100 rows keep and its gradient, of which training may fill its share.
    monkeypatch.setattr("cifrun.cif.memory.free_bytes", lambda device: int(2 * 100 * a_row / SHARE_OF_TRAINING))
    step = UpdateOn(model, config, launch(config.device))
    step(torch.randn(400, 2), 0.01)
    assert 4 <= step._micro_batches <= 5


OUT_OF_MEMORY = """
import resource, sys
import torch, matplotlib.pyplot, torch.utils.tensorboard
from cifrun.cli.main import main
size = next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize:"))
resource.setrlimit(resource.RLIMIT_AS, (size + 600 * 2**20,) * 2)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_a_batch_too_large_for_memory(tmp_path):
    """A real shortage: a sentence, or, where it may be, smaller parts until they fit."""
    words = ["train", "dataset=rings", "cif=false", "flow=maf", "flow.depth=4", "flow.hidden=[512]", "device=cpu"]
    words += ["dataset.num_train=90000", "dataset.num_valid=50", "dataset.num_test=50", "trainer.batch_size=90000"]
    words += ["trainer.max_steps=2", "trainer.log_every=1", "trainer.plot_every=0", "trainer.progress=false"]
    words += ["diagnostics.enabled=false", "eval.chunk_size=2000"]

    def run(name, *more):
        script = [sys.executable, "-c", OUT_OF_MEMORY, *words, f"hydra.run.dir={tmp_path / name}", *more]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        return subprocess.run(script, capture_output=True, text=True, env=env, timeout=600)

    whole = run("whole")
    assert whole.returncode == 2, whole.stderr
    assert whole.stderr.startswith("cifrun: the memory of cpu is too small for 90000 data at once"), whole.stderr
    parts = run("parts", "trainer.micro_batches=auto")
    assert parts.returncode == 0, parts.stderr
