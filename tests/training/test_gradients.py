"""Updates by another estimator of the gradient: of a plain flow, in parts, in mixed precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cifrun.build import build_model
from cifrun.cif.importance import log_mean_exp
from cifrun.cif.model import Model
from cifrun.cli.hydra_app import configure
from cifrun.compute.device import launch

from .updates import UpdateOn

TINY = ["dataset=rings", "flow=maf", "flow.depth=2", "flow.hidden=[8]", "device=cpu", "optimizer=sgd"]
STL = ["objective=elbo", "objective.gradient=stl"]
DREG = ["objective=iwae", "objective.gradient=dreg", "objective.importance_samples=3"]
RWS = ["objective=rws", "objective.importance_samples=3"]
ALL = {"stl": STL, "dreg": DREG, "rws": RWS, "rws-dreg": [*RWS, "objective.gradient=dreg"]}
each = pytest.mark.parametrize("words", ALL.values(), ids=ALL)


def updated(*words: str, steps: int = 3) -> tuple[Model, Tensor]:
    """A model after a few updates, and what they told."""
    config = configure([*TINY, *words])
    torch.manual_seed(0)
    model = build_model(config, (2,))
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(1))
    update = UpdateOn(model, config, launch(config.device))
    return model, torch.stack([torch.stack(update(x, 0.01)) for _ in range(steps)])


def check_same(model: Model, other: Model, **tolerance: float) -> None:
    for (name, a), b in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, **tolerance, msg=lambda m, k=name: f"{k}: {m}")


@each
def test_a_plain_flow_learns_the_same_by_every_estimator(words: list[str]) -> None:
    plain = [words[0], *[word for word in words if "importance" in word]]
    one, other = (updated("cif=false", *chosen) for chosen in (words, plain))
    check_same(one[0], other[0], rtol=0, atol=0)


@each
def test_an_update_in_parts_is_the_same(words: list[str]) -> None:
    one, other = (updated("device.precision=fp64", f"trainer.micro_batches={k}", *words) for k in (1, 3))
    check_same(one[0], other[0], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(one[1], other[1], rtol=1e-6, atol=1e-6)  # what is told is rounded


@pytest.mark.parametrize("gradient", ["reparametrised", "dreg"])
def test_the_loss_of_rws_is_minus_the_bound(gradient: str) -> None:
    """And ELBO is the ELBO."""
    config = configure([*TINY, *RWS, f"objective.gradient={gradient}"])
    model = build_model(config, (2,))
    update, x = UpdateOn(model, config, launch(config.device)), torch.randn(60, 2)
    torch.manual_seed(2)
    log_w = model.train().log_w(x, 3).detach()
    torch.manual_seed(2)
    outcome = update(x, 0.01)
    torch.testing.assert_close(outcome.loss, -log_mean_exp(log_w).mean())
    torch.testing.assert_close(outcome.elbo, log_w.mean())


@each
def test_products_in_less_precision(words: list[str]) -> None:
    _, told = updated("device.precision=bf16", *words)
    assert told.isfinite().all()


@each
def test_each_learns(words: list[str]) -> None:
    _, told = updated("optimizer=adam", *words, steps=100)
    assert told[-1, 0] < told[0, 0] - 0.1
