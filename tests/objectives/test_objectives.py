"""Objectives: bounds on log p(x), in order, and equal where they should be."""

from __future__ import annotations

import math

import pytest
import torch

from cifrun.build import build_model
from cifrun.cif.gradients import Gradient, PathDerivative
from cifrun.cli.hydra_app import configure
from cifrun.config.schema import ObjectiveConfig
from cifrun.errors import ConfigError
from cifrun.objectives.base import gradient_of
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


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, sentence",
    [
        (
            "objective=elbo objective.gradient=dreg",
            r"= dreg is not allowed with .*= elbo, .* choose reparametrised or stl",
        ),
        (
            "objective=iwae objective.gradient=stl",
            r"= stl is not allowed with .*= iwae, .* choose reparametrised or dreg",
        ),
        (
            "objective=rws objective.gradient=stl",
            r"= stl is not allowed with .*= rws, .* choose reparametrised or dreg",
        ),
        (
            "objective=rws objective.importance_samples=1",
            r"importance_samples = 1 is not allowed with .*= rws, .*: choose 2 or more",
        ),
        ("objective.gradient=score", r"objective.gradient = 'score' is not allowed: .* 'dreg'"),
    ],
)
@pytest.mark.parametrize("cif", ["true", "false"])
def test_what_makes_no_sense_is_refused_in_a_sentence(words: str, sentence: str, cif: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as refused:
        configure(["dataset=two_moons", "flow=maf", f"cif={cif}", *words.split()])
    assert "\n" not in str(refused.value)


def test_every_estimator_that_an_objective_names_is_a_setting() -> None:
    for name in OBJECTIVES:
        for gradient in OBJECTIVES[name].gradients:
            assert ObjectiveConfig(name, 10, gradient).gradient == gradient
        assert OBJECTIVES[name].__doc__


def test_an_objective_that_says_nothing_of_its_gradient_has_the_plain_one() -> None:
    OBJECTIVES.register("largest_for_a_test")(lambda log_w: log_w.max(0).values)
    try:
        model = build_model(configure(["dataset=two_moons", "flow=maf"]), (2,))
        config = ObjectiveConfig("largest_for_a_test")
        assert gradient_of(OBJECTIVES[config.name], config.gradient, model) is Gradient
        with pytest.raises(ConfigError, match="choose reparametrised"):
            configure(["dataset=two_moons", "flow=maf", "objective.name=largest_for_a_test", "objective.gradient=stl"])
    finally:
        del OBJECTIVES._entries["largest_for_a_test"], OBJECTIVES._values["largest_for_a_test"]


def test_wake_steps_are_refused_where_a_step_draws_what_is_no_index() -> None:
    model = build_model(configure(["dataset=digits", "flow=bernoulli_vae"]), (1, 8, 8))
    assert gradient_of(elbo, "stl", model) is PathDerivative
    with pytest.raises(ConfigError, match=r"objective\.name = rws is not allowed with a flow that draws numbers"):
        gradient_of(OBJECTIVES["rws"], "dreg", model)
