"""One step, on its own: its term of log w, and its way outward, against densities and Jacobians from elsewhere."""

from __future__ import annotations

import math
from functools import partial
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from cifrun.bijections.autoregressive import Autoregressive
from cifrun.bijections.base import Identity
from cifrun.bijections.coupling import Coupling
from cifrun.bijections.univariate import Affine
from cifrun.cif.actions import ACTIONS
from cifrun.cif.index import Index
from cifrun.cif.step import Step
from tests.helpers import autograd_log_det, randomise

MAPS = {"coupling": lambda: Coupling(3, Affine(), [8]), "autoregressive": lambda: Autoregressive(3, Affine(), [8])}
CASES = [(name, action, relative) for name in MAPS for action in ACTIONS for relative in (True, False)]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}-{'relative' if case[2] else 'by-itself'}")
def step(request: pytest.FixtureRequest) -> Step:
    name, action, relative = request.param
    torch.manual_seed(0)
    index = Index((3,), (3,), ACTIONS[action](), dim=2, st=[6], p=[6], q=[6], relative=relative)
    step = Step(MAPS[name](), index).double()
    randomise(step)
    return step.eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def u() -> Tensor:
    return torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def gaussian(mean: Tensor, log_std: Tensor) -> Independent:
    return Independent(Normal(mean, log_std.exp()), 1)


def expected_log_w(step: Step, x: Tensor, u: Tensor) -> Tensor:
    """log|det ∂z/∂x| + log p(u | z) − log q(u | x): the networks' outputs as torch.distributions read them."""

    def below_of(k: int, v: Tensor) -> Tensor:
        return step.inward(v[None], u[k : k + 1]).z[0]

    rows = [torch.autograd.functional.jacobian(partial(below_of, k), row) for k, row in enumerate(x)]
    log_det = torch.linalg.slogdet(torch.stack(rows)).logabsdet
    index, z, below = step.index, step.inward(x, u).z, step.bijection(x)[0]
    mean, log_std = index.q_net(x).chunk(2, 1)
    if index.relative:
        center, log_scale = index.p_net(below).chunk(2, 1)
        mean, log_std = center + log_scale.exp() * mean, log_scale + log_std
    return log_det + gaussian(*index.p_net(z).chunk(2, 1)).log_prob(u) - gaussian(mean, log_std).log_prob(u)


def test_the_term_of_log_w_is_a_determinant_and_two_gaussians(step: Step, x: Tensor, u: Tensor) -> None:
    given = step.inward(x, u)
    torch.testing.assert_close(given.log_w, expected_log_w(step, x, u), rtol=0, atol=1e-10)
    assert given.u is u
    drawn = step.inward(x)
    torch.testing.assert_close(drawn.log_w, expected_log_w(step, x, drawn.u), rtol=0, atol=1e-10)
    read = step.inward(x, lambda q: q.mean + 1)
    assert torch.equal(read.u, read.q.mean + 1)
    torch.testing.assert_close(read.log_w, expected_log_w(step, x, read.u), rtol=0, atol=1e-10)


@torch.no_grad()
def test_outward_undoes_inward_with_the_same_u(step: Step, x: Tensor, u: Tensor) -> None:
    below = step.inward(x, u).z
    back = step.outward(below, u)
    torch.testing.assert_close(back.z, x, rtol=0, atol=1e-9)
    assert back.before is below and back.u is u
    torch.testing.assert_close(step.inward(step.outward(x, u).z, u).z, x, rtol=0, atol=1e-9)


@torch.no_grad()
def test_u_is_drawn_from_q_inward_and_from_p_outward(step: Step, x: Tensor) -> None:
    """20 000 draws for one datum: mean and standard deviation within five of their standard errors."""
    many, count = x[:1].expand(20_000, -1), 20_000
    inward, outward = step.inward(many), step.outward(many)
    for u, (mean, log_std) in ((inward.u, inward.q), (outward.u, step.index.p_net(x[:1]).chunk(2, 1))):
        noise = (u - mean) / log_std.exp()
        assert (noise.mean(0).abs() < 5 / math.sqrt(count)).all()
        assert ((noise.std(0) - 1).abs() < 5 / math.sqrt(2 * count)).all()
    again = step.outward(many, outward.u)
    assert torch.equal(again.z, outward.z), "the u that is told is the one that was used"


@torch.no_grad()
def test_before_and_after_u_are_the_two_halves_of_inward(step: Step, x: Tensor, u: Tensor) -> None:
    """One f⁻¹(x) serves several u, as importance samples do."""
    below, log_det, q = step.before_u(x)
    other = u.flip(0)
    moved = step.after_u(below.repeat(2, 1), torch.cat([u, other]), torch.cat([q.log_prob(u), q.log_prob(other)]))
    for half, each in enumerate((u, other)):
        rows, whole = slice(7 * half, 7 * half + 7), step.inward(x, each)
        torch.testing.assert_close(moved.z[rows], whole.z)
        torch.testing.assert_close(log_det + moved.log_w[rows], whole.log_w)
        torch.testing.assert_close(log_det + moved.log_dets[0][rows], sum(whole.log_dets))


@torch.no_grad()
def test_forward_is_inward_with_a_u_that_is_drawn(step: Step, x: Tensor) -> None:
    torch.manual_seed(5)
    z, log_w = step(x)
    torch.manual_seed(5)
    moved = step.inward(x)
    assert torch.equal(z, moved.z) and torch.equal(log_w, moved.log_w)


@pytest.mark.parametrize("name", MAPS)
def test_without_an_index_a_step_is_its_map(name: str, x: Tensor) -> None:
    torch.manual_seed(0)
    step = Step(MAPS[name]()).double()
    randomise(step)
    moved = step.inward(x)
    torch.testing.assert_close(moved.log_w, autograd_log_det(step.bijection, x), rtol=0, atol=1e-10)
    assert moved.u is None and moved.q is None and not step.draws
    torch.testing.assert_close(step.outward(moved.z).z, x, rtol=0, atol=1e-10)
    with pytest.raises(TypeError, match="a step without an index draws no u"):
        step.after_u(x, x, x[:, 0])


def test_what_is_compiled_serves_training_alone(x: Tensor, u: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a map that only rearranges, or looks at its own numbers, is not compiled."""
    calls = []

    def compiled(z: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(z))
        return z, z[:, 0]

    index = Index((3,), (3,), ACTIONS["affine"](), dim=2).double()
    step, skipped = Step(Identity((3,)), index), Step(Identity((3,)))
    monkeypatch.setattr(skipped.bijection, "compilable", False)
    monkeypatch.setattr("torch._dynamo.config.recompile_limit", torch._dynamo.config.recompile_limit)
    with patch.object(torch, "compile", lambda function, **_: compiled):
        step.compile_training()
        skipped.compile_training()
    assert torch.equal(step.train().inward(x).log_w, x[:, 0]) and calls == [7]
    step.inward(x, u)
    step.eval().inward(x)
    skipped.train().inward(x)
    assert calls == [7]
