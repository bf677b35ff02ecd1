"""What an index does to z: every registered action, and how an index starts."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor

from cifrun.bijections.planar import LEAST_SLOPE
from cifrun.build import build_model
from cifrun.cif.actions import ACTIONS, Action, AffineAction
from cifrun.cif.index import Index
from cifrun.config.schema import Config
from cifrun.errors import ConfigError
from tests.helpers import randomise, small_config, small_model

DIMENSIONS = (1, 2, 5)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=[(name, dim) for name in ACTIONS for dim in DIMENSIONS], ids=lambda case: f"{case[0]}-{case[1]}")
def case(request: pytest.FixtureRequest) -> tuple[Action, int]:
    return ACTIONS[request.param[0]](), request.param[1]


def draw(action: Action, dim: int, size: int = 40) -> tuple[Tensor, Tensor]:
    """z (size, dim) and parameters far from their initial values."""
    h = 2 * torch.randn(size, action.size(dim), dtype=torch.float64)
    return 2 * torch.randn(size, dim, dtype=torch.float64), h


# --- actions ----------------------------------------------------------------------------------------------------------


def test_log_det_of_an_action_is_that_of_autograd(case: tuple[Action, int]) -> None:
    action, dim = case
    z, h = draw(action, dim)
    z.requires_grad_()
    moved, log_det = action.forward(z, h)
    assert moved.shape == z.shape and log_det.shape == (len(z),)
    rows = [torch.autograd.grad(moved[:, i].sum(), z, retain_graph=True)[0] for i in range(dim)]
    torch.testing.assert_close(log_det, torch.linalg.slogdet(torch.stack(rows, 1)).logabsdet, rtol=0, atol=1e-9)


@torch.no_grad()
def test_round_trip_of_an_action(case: tuple[Action, int]) -> None:
    action, dim = case
    z, h = draw(action, dim)
    torch.testing.assert_close(action.inverse(action.forward(z, h)[0], h), z, rtol=0, atol=1e-8)
    torch.testing.assert_close(action.forward(action.inverse(z, h), h)[0], z, rtol=0, atol=1e-8)
    assert action.inverse_residual is None or action.inverse_residual < 1e-9


@torch.no_grad()
def test_an_action_starts_exactly_as_the_identity(case: tuple[Action, int]) -> None:
    action, dim = case
    z = 3 * torch.randn(200, dim)
    moved, log_det = action.forward(z, action.initial(dim).expand(len(z), -1))
    assert torch.equal(moved, z)
    assert torch.equal(log_det, torch.zeros(len(z)))


@pytest.mark.parametrize("w", [0.0, 1e-12, 1e-5, 1.0, 30.0])
def test_a_planar_action_has_no_bad_parameters(w: float) -> None:
    """â is never longer than a, no slope is less than δ, and all gradients are finite, also as w goes to zero."""
    action = ACTIONS["planar"]()
    z = torch.randn(100, 2)
    h = torch.cat([5 * torch.randn(100, 2), w * torch.randn(100, 2), torch.randn(100, 1)], 1).requires_grad_()
    moved, log_det = action.forward(z, h)
    assert ((moved - z).norm(dim=1) <= h[:, :2].norm(dim=1) * (1 + 1e-4)).all()
    assert (log_det > math.log(LEAST_SLOPE) - 0.1).all()
    (gradient,) = torch.autograd.grad(moved.sum() + log_det.sum(), h)
    assert gradient.isfinite().all()


def test_an_unknown_action_gets_the_names() -> None:
    data = {"dataset": {"name": "two_moons"}, "flow": {"family": "maf"}, "index": {"action": "plannar"}}
    with pytest.raises(ConfigError, match="'plannar' is not allowed: it should be 'affine' or 'planar'"):
        Config.parse(data)


# --- an index with each action ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", list(ACTIONS))
def test_a_cif_starts_exactly_at_its_base_flow_whatever_the_action(action: str) -> None:
    plain = build_model(small_config("maf", cif=False), (2,)).double().eval()
    cif = build_model(small_config("maf", cif=True, index={"action": action}), (2,)).double().eval()
    randomise(plain)
    for theirs, ours in zip(plain.steps, cif.steps, strict=True):
        ours.bijection.load_state_dict(theirs.bijection.state_dict())
    x = torch.randn(50, 2, dtype=torch.float64)
    torch.testing.assert_close(cif.log_w(x, 7), plain.log_prob(x).expand(7, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("relative", [True, False], ids=["relative", "by-itself"])
@pytest.mark.parametrize("p", [[8], "standard_normal"], ids=["p-looks", "p-blind"])
@pytest.mark.parametrize("action", list(ACTIONS))
def test_training_leaves_no_saddle_point_at_the_start(action: str, p: list[int] | str, relative: bool) -> None:
    """After a few steps every parameter has a gradient, and what the action does to z differs from one u to another."""
    index = {"action": action, "st": [8], "p": p, "q": [8], "relative": relative}
    model = build_model(small_config("affine", True, flow={"depth": 1}, index=index), (2,)).double()
    x = torch.cat([torch.randn(200, 2) * 0.3 - 1, torch.randn(200, 2) * 0.3 + 1]).double()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        (-model.log_w(x).mean()).backward()
        optimizer.step()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and (parameter.grad != 0).any(), key
    one = model.steps[0].index
    assert one is not None
    with torch.no_grad():
        low, high = (one(x, torch.full((len(x), 1), u, dtype=torch.float64))[0] for u in (-1.0, 1.0))
    assert (low - high).abs().max() > 1e-3


@pytest.mark.parametrize("action", list(ACTIONS))
@pytest.mark.parametrize("st", ["zero", "learned_constant"])
def test_constants_as_parameters_of_an_action(action: str, st: str) -> None:
    index = Index((2,), (2,), ACTIONS[action](), st=st)
    z, u = torch.randn(5, 2), torch.randn(5, 1)
    assert torch.equal(index(z, u)[0], z)
    parameters = list(index.st.parameters())
    assert len(parameters) == (st == "learned_constant")
    for parameter in parameters:
        (index(z, u)[0] ** 2).sum().backward()
        assert (parameter.grad != 0).any()


@torch.no_grad()
def test_q_relative_to_p_or_by_itself() -> None:
    """By itself it does not look at p, depends on x from the start, and is as good for an estimate of log p(x)."""
    x, below = torch.randn(2, 50, 3).unbind()
    for relative in (True, False):
        index = Index((3,), (3,), AffineAction(), p=[8], q=[8], relative=relative)
        before = index.q(x, below)
        assert before.mean.std() > 1e-3
        for parameter in index.p_net.parameters():
            parameter.add_(1)
        assert torch.equal(index.q(x, below).mean, before.mean) is not relative
    models = [small_model("realnvp", True, index={"relative": relative}) for relative in (True, False)]
    models[1].load_state_dict(models[0].state_dict())  # the same p(x), and another q
    x = 0.3 * torch.randn(20, 2, dtype=torch.float64)
    one, other = (model.estimate(x, 20_000) for model in models)
    assert (one.elbo - other.elbo).abs().max() > 0.01
    sure = torch.minimum(one.ess, other.ess) > 500  # elsewhere weights are too heavy for an error to be told
    assert sure.sum() >= 5
    error = (1 / one.ess + 1 / other.ess).sqrt()
    assert (((one.log_likelihood - other.log_likelihood) / error).abs()[sure] < 5).all()


def test_learned_constants_of_p_and_q_are_two() -> None:
    index = Index((2,), (2,), AffineAction(), p="learned_constant", q="learned_constant")
    assert index.p_net.value is not index.q_net.value
    assert index.p_net.value.data_ptr() != index.q_net.value.data_ptr()


@pytest.mark.parametrize("action", list(ACTIONS))
@torch.no_grad()
def test_an_index_acts_on_events_of_any_shape(action: str) -> None:
    index = Index((3, 4, 4), (3, 4, 4), ACTIONS[action](), dim=2).double()
    randomise(index)
    z, u = torch.randn(6, 3, 4, 4, dtype=torch.float64), torch.randn(6, *index.u_shape, dtype=torch.float64)
    moved, log_det = index(z, u)
    assert moved.shape == z.shape and log_det.shape == (6,)
    torch.testing.assert_close(index.inverse(moved, u), z, rtol=0, atol=1e-8)


@torch.no_grad()
def test_samples_through_a_planar_action_report_their_residual() -> None:
    assert small_model("realnvp", True).inverse_residual() is None
    model = small_model("realnvp", True, index={"action": "planar"})
    for twin in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.sample(50, seed=0).isfinite().all()
        residual = twin.inverse_residual()
        assert residual is not None and residual < 1e-9


# --- flows that are made of their index -------------------------------------------------------------------------------


def test_a_flow_that_is_made_of_its_index_has_no_plain_side() -> None:
    with pytest.raises(ConfigError, match=r"^flow=vae is made of its index: "):
        build_model(small_config("vae", cif=False), (2,))
    assert build_model(small_config("vae", cif=True), (2,)).indexed


# --- what training logs -----------------------------------------------------------------------------------------------


def test_statistics_add_up_over_the_steps() -> None:
    model = build_model(small_config("cnf", False, flow={"depth": 2, "hidden": [8]}), (2,))
    model.log_w(torch.randn(4, 2))
    each = [step.bijection.statistics()["function_evaluations"] for step in model.steps]
    assert len(each) == 2 and min(each) >= 7
    assert model.statistics() == {"function_evaluations": sum(each)}
    assert small_model("maf", True).statistics() == {}
