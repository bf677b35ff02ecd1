"""On a GPU, an update that is recorded and replayed: the same numbers as without, and only where that is possible."""

from __future__ import annotations

import copy

import pytest
import torch

from cifrun.build import build_model
from cifrun.compute.device import launch
from cifrun.data.loader import Loader
from cifrun.training.cuda_graph import watched
from cifrun.training.step import WARM_UP
from cifrun.training.training_state import TrainingState
from tests.helpers import assert_same_run, small_config

from .updates import UpdateOn

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here"),
]

#: Flows whose step never waits for the device; and those whose step does, or draws on the CPU.
REPEATABLE = ["affine", "realnvp", "maf", "nsf_ar", "nsf_coupling", "sos", "planar", "bnaf", "resflow"]
OTHERS = ["cnf", "resflow_image"]


def update(flow, cif, graph, shape=(2,), optimizer="adam", objective=None, **device):
    config = small_config(
        flow,
        cif,
        device={"accelerator": "gpu", "cuda_graph": graph, **device},
        optimizer={"name": optimizer, "max_grad_norm": 1.0},
        objective=objective or {},
    )
    torch.manual_seed(0)
    model = build_model(config, shape)
    return model, UpdateOn(model, config, launch(config.device), shape)


def batches(count, shape=(2,), rows=64):
    torch.manual_seed(1)
    return [0.5 * torch.randn(rows, *shape, device="cuda") for _ in range(count)]


def trained(flow, cif, graph, xs, **options):
    model, step = update(flow, cif, graph, tuple(xs[0].shape[1:]), **options)
    torch.manual_seed(2)
    outcomes = [torch.stack(step(x, 1e-3 * (k + 1))) for k, x in enumerate(xs)]
    return model, step, torch.stack(outcomes)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("cif", [False, True])
@pytest.mark.parametrize("flow", REPEATABLE)
def test_a_recorded_update_is_the_same_to_the_bit(flow, cif, optimizer):
    """Noise, learning rate and clipping included; the generator is left where it would be."""
    xs = batches(WARM_UP + 4)
    model, step, outcomes = trained(flow, cif, True, xs, optimizer=optimizer)
    state = torch.cuda.get_rng_state()
    assert step._recorded is not None
    twin, eager, expected = trained(flow, cif, False, xs, optimizer=optimizer)
    assert eager._recorded is None
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert torch.equal(outcomes, expected)
    for (name, a), b in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("flow", OTHERS)
def test_what_can_not_be_recorded_is_not(flow):
    shape = (1, 8, 8) if flow == "resflow_image" else (2,)
    xs = batches(WARM_UP + 2, shape)
    _, step, outcomes = trained(flow, False, True, xs)
    assert step._recorded is None and step._until_recording == 0
    assert outcomes.isfinite().all()


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_lower_precision_is_recorded_too(precision):
    xs = batches(WARM_UP + 3)
    _, step, outcomes = trained("resflow", True, True, xs, precision=precision)
    assert step._recorded is not None
    assert torch.equal(outcomes, trained("resflow", True, False, xs, precision=precision)[2])


@pytest.mark.parametrize("words", ["elbo stl", "iwae dreg", "rws reparametrised", "rws dreg"])
def test_every_estimator_of_the_gradient_is_recorded(words):
    name, gradient = words.split()
    objective = {"name": name, "importance_samples": 3, "gradient": gradient}
    xs = batches(WARM_UP + 3)
    _, step, outcomes = trained("maf", True, True, xs, objective=objective)
    assert step._recorded is not None
    assert torch.equal(outcomes, trained("maf", True, False, xs, objective=objective)[2])


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("flow", REPEATABLE)
def test_an_update_does_not_wait_for_the_device(flow, graph):
    xs = batches(WARM_UP + 3)
    _, step = update(flow, True, graph)
    for x in xs[:WARM_UP]:
        step(x, 1e-3)
    waited = []
    torch.cuda.set_sync_debug_mode("error")
    try:
        outcomes = [step(x, 1e-3).loss.clone() for x in xs[WARM_UP:]]
        try:
            outcomes[0].item()
        except RuntimeError as error:  # that it would wait: so the mode is on, and no update did
            waited.append(error)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(waited) == 1 and (step._recorded is not None) == graph
    assert torch.stack(outcomes).isfinite().all()


def test_evaluation_sees_the_weights_that_a_replay_made():
    """What is kept for a state of the weights (norms, masks) is made anew after each replay."""
    for flow in ("resflow", "maf"):
        model, step = update(flow, True, True)
        x, *xs = batches(WARM_UP + 4)
        for batch in xs:
            step(batch, 1e-2)
            with torch.no_grad():
                torch.manual_seed(3)
                seen = model.eval().log_prob(x, 5)
                torch.manual_seed(3)
                expected = copy.deepcopy(model).eval().log_prob(x, 5)
            torch.testing.assert_close(seen, expected)
        assert step._recorded is not None


def test_a_bad_batch_changes_nothing_in_a_replay():
    model, step = update("maf", True, True)
    for x in batches(WARM_UP + 1):
        step(x, 1e-3)
    saved = copy.deepcopy(model.state_dict())
    state = TrainingState()
    for n in (1, 2):
        step(torch.full((64, 2), float("nan"), device="cuda"), 1e-3)
        step.count(state)
        assert (state.skipped, state.bad_steps) == (n, n)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in saved.items())
    step(batches(1)[0], 1e-3)
    step.count(state)
    assert (state.skipped, state.bad_steps) == (2, 0)


def test_a_batch_of_another_size_is_taken_as_it_is():
    model, step = update("maf", False, True)
    for x in batches(WARM_UP):
        step(x, 1e-3)
    x = batches(1, rows=10)[0]
    expected = -model.log_w(x).mean()
    torch.testing.assert_close(step(x, 1e-3).loss, expected.detach())


def test_what_is_seen_of_some_work():
    x = torch.ones(10, device="cuda")
    with watched() as watch:
        y = x.repeat(1000) + 1
    assert watch.repeatable and watch.fits()
    assert 4 * len(y) <= watch.bytes <= 4 * 4 * len(y)
    with watched() as watch:
        x.sum().item()
    assert not watch.repeatable
    with watched() as watch:
        torch.rand(())
    assert not watch.repeatable
    with watched() as watch:
        Loader.of_tensor(x, x.device).fetch(torch.arange(3))
    assert watch.repeatable


def test_a_run_on_a_gpu_that_is_stopped_goes_on_to_the_bit(tmp_path, monkeypatch):
    """Recorded updates, evaluations between them, and a checkpoint in the middle."""
    from cifrun.training import loop as trainer

    options = {"max_steps": 20, "batch_size": 100, "valid_every": 5, "checkpoint_every": 8, "plot_every": 0}

    def config(steps):
        return small_config(
            "resflow",
            True,
            trainer={**options, "max_steps": steps, "progress": False},
            eval={"importance_samples": 3, "valid_importance_samples": 2},
            device={"accelerator": "gpu"},
            diagnostics={"enabled": False},
        )

    trainer.train(config(20), tmp_path / "whole")

    class Stop(Exception):
        pass

    count = 0
    original = trainer.Update.__call__

    def dies(self, batch, lr):
        nonlocal count
        count += 1
        if count == 14:
            raise Stop
        return original(self, batch, lr)

    monkeypatch.setattr(trainer.Update, "__call__", dies)
    with pytest.raises(Stop):
        trainer.train(config(20), tmp_path / "parts")
    monkeypatch.setattr(trainer.Update, "__call__", original)
    trainer.train(config(20), tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
