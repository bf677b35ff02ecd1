"""Estimators of the gradient: their means by quadrature, which no chance enters, and by draws; and where they vanish.

Two derivations of the same number are compared. The estimators differentiate log w along u(ε; θ, φ), and the nodes of a
Gauss–Hermite rule take the place of ε: what is left of chance is the error of the rule. The truth holds u fixed and
differentiates the density instead: ∂ E_q[f] = E_q[∂f + f ∂ log q].
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cifrun.bijections.base import Identity
from cifrun.build import build_model
from cifrun.cif.actions import AffineAction
from cifrun.cif.gaussian import DiagonalGaussian, standard_normal
from cifrun.cif.gradients import (
    DoublyReparametrised,
    Gradient,
    PathDerivative,
    Wake,
    WakeDoublyReparametrised,
)
from cifrun.cif.importance import log_mean_exp
from cifrun.cif.index import Index
from cifrun.cif.model import Model
from cifrun.cif.step import Step
from cifrun.cli.hydra_app import configure
from tests.helpers import randomise, small_config, small_model

Objective = Callable[[Tensor], Tensor]


def mean(log_w: Tensor) -> Tensor:
    return log_w.mean(0)


#: Each estimator, of what, and from how many draws.
ESTIMATORS: dict[str, tuple[type[Gradient], Objective, int]] = {
    "elbo": (Gradient, mean, 1),
    "elbo-stl": (PathDerivative, mean, 1),
    "elbo-stl-2": (PathDerivative, mean, 2),
    "iwae": (Gradient, log_mean_exp, 2),
    "iwae-dreg": (DoublyReparametrised, log_mean_exp, 2),
    "rws": (Wake, log_mean_exp, 2),
    "rws-dreg": (WakeDoublyReparametrised, log_mean_exp, 2),
}
X = torch.tensor([[0.7, -0.4]], dtype=torch.float64)


def cif(layers: int, relative: bool = True) -> Model:
    """A CIF of so many indices, each u_l of dimension 1, whose networks bend but little: then few nodes are enough."""
    torch.manual_seed(0)
    index = {"dim": 1, "st": [6], "p": [6], "q": [6], "relative": relative}
    model = build_model(small_config("maf", True, index=index, flow={"depth": layers, "hidden": [8]}), (2,)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.6)
    randomise(model, 0.2)
    return model.train()


def is_of_q(name: str) -> bool:
    return ".q_net." in name


def gradients(model: nn.Module, value: Tensor) -> dict[str, Tensor]:
    """The gradient of a number, by the names of the parameters."""
    named = dict(model.named_parameters())
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(parameter) if slope is None else slope
        for (name, parameter), slope in zip(named.items(), found, strict=True)
    }


# --- means, by quadrature ---------------------------------------------------------------------------------------------


def rule(layers: int, m: int, nodes: int) -> tuple[Tensor, Tensor]:
    """ε of each layer and draw, (layers, m, rows, 1), for every combination of the nodes, and the weights, (rows,)."""
    places, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / weights.sum()
    grid = np.array(list(itertools.product(range(nodes), repeat=layers * m)))
    noise = torch.from_numpy(places[grid]).T.reshape(layers, m, -1, 1)
    return noise, torch.from_numpy(weights[grid].prod(1))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[Tensor], None]:
    """Makes the next draws of u those of given noise, (layers, m, rows, 1)."""

    def draw(noise: Tensor) -> None:
        layers: Iterator[Tensor] = iter(noise)

        def given(q: DiagonalGaussian, count: int) -> Tensor:
            return next(layers).reshape(count, *q.mean.shape)

        monkeypatch.setattr(DiagonalGaussian, "noise", given)

    return draw


def estimate(name: str, model: Model, x: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """The estimator's gradient, a weighted sum over rows."""
    kind, objective, m = ESTIMATORS[name]
    return gradients(model, (weights * objective(model(x, m, gradient=kind()))).sum())


def densities(model: Model, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """log p(x, u) and log q(u | x), both (m, rows), as functions of θ and φ at u that are held fixed."""
    layers, rows = iter(noise.flatten(1, 2)), x.repeat(noise.shape[1], 1)
    with torch.no_grad():
        moves = list(model.inward(rows, lambda q: q.mean + torch.exp(q.log_std) * next(layers)))
    u = [move.u for move in moves]
    moves = list(model.inward(rows, u))
    log_q = sum(move.q.log_prob(move.u) for move in moves if move.q is not None)
    log_p = sum(move.log_w for move in moves) + log_q + standard_normal(moves[-1].z)
    return log_p.unflatten(0, noise.shape[1:3]), log_q.unflatten(0, noise.shape[1:3])


def truth(name: str, model: Model, x: Tensor, noise: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """What the estimator's mean should be."""
    kind, objective, _ = ESTIMATORS[name]
    log_p, log_q = densities(model, x, noise)
    share = (log_p - log_q).detach().softmax(0)
    if issubclass(kind, Wake | WakeDoublyReparametrised):
        theta = gradients(model, (weights * (share * log_p).sum(0)).sum())
        phi = gradients(model, (weights * (share * log_q).sum(0)).sum())
        return {key: phi[key] if is_of_q(key) else theta[key] for key in theta}
    density = torch.exp((log_q - log_q.detach()).sum(0))  # 1, with the slope of log q
    return gradients(model, (weights * density * objective(log_p - log_q)).sum())


@pytest.mark.parametrize("relative", [True, False], ids=["relative", "by-itself"])
@pytest.mark.parametrize("layers", [1, 2], ids=["one-layer", "two-layers"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_mean_is_the_gradient(name: str, layers: int, relative: bool, drawn: Callable[[Tensor], None]) -> None:
    """In two layers a factor that entered once for each layer crossed, or a z_l held fixed, would show.

    The rule is off by 1e-8, and with 20 nodes in four dimensions by 4e-3, of the largest slope.
    """
    model, m = cif(layers, relative), ESTIMATORS[name][2]
    noise, weights = rule(layers, m, {1: 60, 2: 60, 4: 20}[layers * m])
    x = X.expand(len(weights), -1)
    expected = truth(name, model, x, noise, weights)
    drawn(noise)
    found = estimate(name, model, x, weights)
    for phi in (True, False):
        keys = [key for key in expected if is_of_q(key) is phi]
        largest = max(expected[key].abs().max().item() for key in keys)
        furthest = max((found[key] - expected[key]).abs().max().item() for key in keys)
        assert furthest < {1: 1e-7, 2: 1e-7, 4: 1e-2}[layers * m] * largest


# --- means, by draws --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["elbo-stl", "iwae-dreg", "rws", "rws-dreg"])
def test_the_mean_over_draws_is_the_gradient(name: str) -> None:
    """40 means of 2 000 draws each. No parameter may be beyond 6 standard errors: by Student's t with 39 degrees of
    freedom 5e-7 each, and with less than 300 parameters a false alarm below 2e-4 a test."""
    torch.manual_seed(3)
    model, m = cif(2), ESTIMATORS[name][2]
    noise, weights = rule(2, m, {2: 60, 4: 20}[2 * m])
    expected = truth(name, model, X.expand(len(weights), -1), noise, weights)
    rows = X.expand(2000, -1)
    found = [estimate(name, model, rows, torch.full((2000,), 1 / 2000, dtype=torch.float64)) for _ in range(40)]
    for key, slope in expected.items():
        several = torch.stack([one[key] for one in found])
        error = several.std(0) / len(found) ** 0.5
        assert ((several.mean(0) - slope).abs() <= 6 * error + 3e-5).all(), key


# --- the posterior ----------------------------------------------------------------------------------------------------


def at_the_posterior() -> Model:
    """x = z_0 − a_1 u_1 − a_2 u_2 with all of them N(0, 1), and q the posterior, which is linear in two layers.

    u_2 | x ~ N(−a_2 x/V, 1 − a_2²/V) with V = 1 + a_1² + a_2², and u_1 | z_1 ~ N(−a_1 z_1/W, 1/W) with W = 1 + a_1².
    """
    a = torch.tensor([0.9, 1.3], dtype=torch.float64)  # of the layers from the data inward
    steps = []
    for k, variance in enumerate((1 + a.square().sum(), 1 + a[1] ** 2)):
        index = Index((1,), (1,), AffineAction(), dim=1, st=[], p="standard_normal", q=[]).double()
        with torch.no_grad():
            index.st[0].weight.copy_(torch.tensor([[0.0], [a[k]]]))
            index.st[0].bias.zero_()
            index.q_net[0].weight.copy_(torch.tensor([[-a[k] / variance], [0.0]]))
            index.q_net[0].bias.copy_(torch.tensor([0.0, 0.5 * (1 - a[k] ** 2 / variance).log()]))
        steps.append(Step(Identity((1,)), index))
    return Model(steps).train()


@pytest.mark.parametrize("name", ["elbo-stl", "elbo-stl-2", "iwae-dreg", "rws-dreg"])
def test_where_q_is_the_posterior_the_gradient_of_q_is_zero_for_each_draw(name: str) -> None:
    torch.manual_seed(0)
    model, x = at_the_posterior(), torch.randn(1, 1, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    plain = {"elbo-stl": "elbo", "elbo-stl-2": "elbo", "iwae-dreg": "iwae", "rws-dreg": "rws"}[name]
    for _ in range(5):
        slopes, others = estimate(name, model, x, one), estimate(plain, model, x, one)
        assert all(slope.abs().max() < 1e-12 for key, slope in slopes.items() if is_of_q(key))
        assert all(slope.abs().max() > 1e-3 for key, slope in others.items() if key.endswith("q_net.0.bias"))


# --- what stays as it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("kind", [PathDerivative, DoublyReparametrised, Wake, WakeDoublyReparametrised])
def test_the_numbers_are_those_of_the_plain_estimator(kind: type[Gradient], m: int) -> None:
    model, x = cif(2), torch.randn(7, 2, dtype=torch.float64)
    torch.manual_seed(5)
    expected = model.log_w(x, m)
    torch.manual_seed(5)
    torch.testing.assert_close(model(x, m, gradient=kind()), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("plain, other", [("elbo", "elbo-stl"), ("iwae", "iwae-dreg")])
def test_only_the_gradient_of_q_is_another(plain: str, other: str) -> None:
    """All other weights have the same gradient, draw by draw: also through z_l, and the p that q is relative to."""
    model, x, weights = cif(2), torch.randn(6, 2, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    found = []
    for name in (plain, other):
        torch.manual_seed(7)
        found.append(estimate(name, model, x, weights))
    for key, slope in found[0].items():
        if is_of_q(key):
            assert (slope - found[1][key]).abs().max() > 1e-4
        else:
            torch.testing.assert_close(found[1][key], slope, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", [PathDerivative, Wake])
def test_afterwards_an_index_is_as_before_also_after_an_error(kind: type[Gradient]) -> None:
    model = cif(2)
    with pytest.raises(ValueError, match="stop"), kind().inside(model.indices):
        assert all(index.gradient is not None for index in model.indices)
        raise ValueError("stop")
    assert all(index.gradient is None for index in model.indices)


@pytest.mark.parametrize("kind", [Gradient, PathDerivative, DoublyReparametrised, Wake, WakeDoublyReparametrised])
def test_a_step_with_an_index_is_taken_as_compiled_by_the_plain_estimator_alone(kind: type[Gradient]) -> None:
    model, x, called = cif(2), torch.randn(5, 2, dtype=torch.float64), []
    for step in model.steps:
        step._compiled = lambda z, step=step: called.append(step) or step.forward(z)
    model(x, gradient=kind())
    indexed = [step for step in model.steps if step.index is not None]
    assert any(step in called for step in indexed) is (kind is Gradient)
    assert [step for step in called if step.index is None] == [step for step in model.steps if step.index is None]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_of_a_plain_flow_every_estimator_is_the_gradient(name: str) -> None:
    model, x = small_model("maf", False).train(), torch.randn(6, 2, dtype=torch.float64)
    weights = torch.ones(6, dtype=torch.float64)
    expected = gradients(model, model.log_w(x).sum())
    for key, slope in estimate(name, model, x, weights).items():
        torch.testing.assert_close(slope, expected[key], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("index", [{"q": "learned_constant"}, {"q": "standard_normal"}, {"action": "planar"}], ids=str)
@pytest.mark.parametrize("name", ["elbo-stl", "iwae-dreg", "rws", "rws-dreg"])
def test_every_kind_of_index_has_a_gradient(name: str, index: dict[str, str]) -> None:
    """Of a q without weights too."""
    model = small_model("resflow", True, index=index).train()
    slopes = estimate(name, model, torch.randn(8, 2, dtype=torch.float64), torch.ones(8, dtype=torch.float64))
    assert all(slope.isfinite().all() for slope in slopes.values())
    assert index.get("q") == "standard_normal" or any(slope.any() for k, slope in slopes.items() if is_of_q(k))


@pytest.mark.parametrize("name", ["elbo-stl", "iwae-dreg", "rws", "rws-dreg"])
def test_an_index_that_is_an_image(name: str) -> None:
    overrides = "flow=glow dataset=digits flow.depth=1 flow.width=4 index.st=[4] index.p=[4] index.q=[4] cif=true"
    model = build_model(configure(overrides.split()), (1, 8, 8)).train()
    randomise(model, 0.05)
    slopes = estimate(name, model, torch.rand(3, 1, 8, 8), torch.ones(3))
    assert all(slope.isfinite().all() for slope in slopes.values())
    assert all(slope.any() for key, slope in slopes.items() if is_of_q(key))
