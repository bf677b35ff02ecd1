"""What an index does to z with each action, where it starts, and what p and q look at."""

from __future__ import annotations

import pytest
import torch

from cifrun.build import build_model
from cifrun.cif.actions import ACTIONS, AffineAction
from cifrun.cif.index import Index
from tests.helpers import SMALL_INDEX, randomise, small_config, small_model


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


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
    index = {"dim": 1, "action": action, "st": [8], "p": p, "q": [8], "relative": relative}
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
    models = [small_model("realnvp", True, index={**SMALL_INDEX, "relative": relative}) for relative in (True, False)]
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


def test_an_index_acts_on_the_active_part_of_an_event() -> None:
    index = Index((2, 4, 4), (2, 4, 4), AffineAction(), dim=3, st=[4], p=[4], q=[4]).double()
    with torch.no_grad():
        for parameter in index.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    z, u = (torch.randn(5, channels, 4, 4, dtype=torch.float64) for channels in (6, 3))
    moved, log_det = index(z, u)
    assert index.u_shape == (3, 4, 4) and index.q(z, z).mean.shape == (5, 3, 4, 4)
    torch.testing.assert_close(moved[:, 2:], z[:, 2:], rtol=0, atol=0)
    assert (moved[:, :2] != z[:, :2]).all()
    torch.testing.assert_close(index.inverse(moved, u), z)
    jacobian = torch.autograd.functional.jacobian(lambda row: index(row[None], u[:1])[0].flatten(), z[0])
    torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian.reshape(96, 96))[1])
    # What lies beyond it is of no influence.
    other = torch.cat([z[:, :2], 7 + z[:, 2:]], 1)
    torch.testing.assert_close(index.p(other).mean, index.p(z).mean, rtol=0, atol=0)
