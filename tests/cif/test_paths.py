"""The two ways through the steps of a model: each undoes the other, and what they say of each step adds up."""

from __future__ import annotations

import pytest
import torch

from cifrun.cif.gaussian import standard_normal
from cifrun.cif.model import Model
from cifrun.cif.paths import generate, infer, log_weight, outward, reconstruct
from tests.helpers import small_model

FLOWS = ["maf", "planar", "resflow"]


@pytest.fixture(params=[(flow, cif) for flow in FLOWS for cif in (False, True)], ids=lambda p: f"{p[0]}-{p[1]}")
def model(request: pytest.FixtureRequest) -> Model:
    torch.manual_seed(0)
    return small_model(*request.param)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_outward_with_the_same_u_undoes_inward(model, x):
    path = infer(model, x)
    torch.testing.assert_close(outward(model, path.z, path.u), x, rtol=0, atol=1e-8)
    torch.testing.assert_close(reconstruct(model, x), x, rtol=0, atol=1e-8)


def test_a_path_that_was_generated_leads_back_to_its_z(model):
    z = torch.randn(40, 2, dtype=torch.float64)
    path = generate(model, z)
    *_, last = model.inward(path.x, path.u)
    torch.testing.assert_close(last.z, z, rtol=0, atol=1e-8)


def test_generated_draws_are_those_of_sample(model):
    torch.manual_seed(3)
    samples = model.sample(30)
    torch.manual_seed(3)
    assert torch.equal(generate(model, torch.randn(30, 2, dtype=torch.float64)).x, samples)


def test_the_terms_of_the_steps_and_the_prior_are_log_w(model, x):
    torch.manual_seed(5)
    moves = list(model.inward(x))
    torch.manual_seed(5)
    whole = model.log_w(x)[0]
    torch.testing.assert_close(sum(move.log_w for move in moves) + standard_normal(moves[-1].z), whole)


def test_a_given_u_has_the_weight_that_it_has_when_drawn(model, x):
    """A draw of q knows log q(u) from its noise; a given u has it from the formula."""
    torch.manual_seed(7)
    path = infer(model, x)
    torch.manual_seed(7)
    torch.testing.assert_close(log_weight(model, path), model.log_w(x)[0])


def test_the_log_determinants_of_a_step_are_those_of_autograd(model, x):
    position = 0
    path = infer(model, x)
    moved = next(model.inward(x, path.u))
    rows = []
    for k, datum in enumerate(x):
        u = None if path.u[position] is None else path.u[position][k : k + 1]
        rows.append(
            torch.autograd.functional.jacobian(lambda v, u=u: model.steps[position].inward(v[None], u).z[0], datum)
        )
    expected = torch.linalg.slogdet(torch.stack(rows))[1]
    torch.testing.assert_close(sum(moved.log_dets), expected)


def test_start_and_finish_give_the_weights_of_one_pass(model, x):
    """For one importance sample, the two halves draw what a whole pass draws."""
    torch.manual_seed(9)
    whole = model.log_w(x)
    torch.manual_seed(9)
    torch.testing.assert_close(model.finish(model.start(x), 1), whole)


def test_u_can_be_read_from_q_instead_of_drawn(model, x):
    first, again = ([move.u for move in model.inward(x, lambda q: q.mean)] for _ in range(2))
    for u, same, step in zip(first, again, model.steps, strict=True):
        assert (u is None) == (step.index is None)
        assert u is None or torch.equal(u, same)
