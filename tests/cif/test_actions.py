"""Each action is the formula that it is described by, an invertible map, and the identity at first."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions.transforms import AffineTransform, ComposeTransform

from cifrun.bijections.planar import LEAST_SLOPE
from cifrun.cif.actions import ACTIONS, Action, AffineAction, BoundedAction, PlanarAction
from cifrun.errors import ConvergenceError

SEEDS, DIMENSIONS = st.integers(0, 999), st.integers(1, 5)


def draw(seed: int, *sizes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]


@given(SEEDS, DIMENSIONS)
@settings(max_examples=30, deadline=None)
def test_the_affine_action_shifts_and_then_scales(seed: int, dim: int) -> None:
    z, s, t = draw(seed, *[(8, dim)] * 3)
    truth = ComposeTransform([AffineTransform(t, 1.0), AffineTransform(0.0, s.exp())])
    moved, log_det = AffineAction().forward(z, torch.cat([s, t], 1))
    torch.testing.assert_close(moved, truth(z))
    torch.testing.assert_close(log_det, truth.log_abs_det_jacobian(z, moved).sum(1))
    torch.testing.assert_close(AffineAction().inverse(z, torch.cat([s, t], 1)), truth.inv(z))


@given(SEEDS, DIMENSIONS)
@settings(max_examples=30, deadline=None)
def test_the_planar_action_moves_along_one_direction(seed: int, dim: int) -> None:
    """Where wᵀa is not negative, â = a; elsewhere wᵀâ is bent to stay above −1, and only what lies along w changes."""
    z, a, w, b = draw(seed, (50, dim), (50, dim), (50, dim), (50, 1))
    moved, log_det = PlanarAction().forward(z, torch.cat([a, w, b], 1))
    along, slope = (w * z).sum(1, keepdim=True) + b, 1 - LEAST_SLOPE
    wa = (w * a).sum(1, keepdim=True)
    bent = torch.where(wa < 0, slope * torch.expm1(wa / slope), wa)
    corrected = a + (bent - wa) * w / (w * w).sum(1, keepdim=True)
    torch.testing.assert_close(moved, z + corrected * torch.tanh(along))
    torch.testing.assert_close(log_det, torch.log1p(bent / torch.cosh(along) ** 2)[:, 0])
    kept = (wa >= 0)[:, 0]
    torch.testing.assert_close(moved[kept], (z + a * torch.tanh(along))[kept])


def test_a_bounded_action_stretches_by_at_most_e_squared_and_comes_back() -> None:
    """An affine one overflows where the network of s is far from what it has seen."""
    z, h = torch.randn(20, 3).double(), 1e4 * torch.randn(20, 6).double()
    moved, log_det = BoundedAction().forward(z, h)
    assert bool((log_det.abs() <= 3 * BoundedAction.bound).all()) and bool(moved.isfinite().all())
    torch.testing.assert_close(BoundedAction().inverse(moved, h), z, rtol=1e-9, atol=1e-9)
    assert not bool(AffineAction().forward(z, h)[0].isfinite().all())
    small = 1e-3 * h / 1e4
    torch.testing.assert_close(
        BoundedAction().forward(z, small), AffineAction().forward(z, small), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("name", ACTIONS)
def test_a_pointwise_action_gives_each_number_parameters_of_its_own(name: str) -> None:
    """As an index of images takes for granted: parameter (k, i) moves the number i and no other."""
    action, dim = ACTIONS[name](), 4
    z, h = draw(0, (1, dim), (1, action.size(dim)))
    jacobian = torch.autograd.functional.jacobian(lambda h: action.forward(z, h[None])[0][0], h[0])
    if action.pointwise:
        parts = jacobian.unflatten(1, (-1, dim)).transpose(0, 1)
        off = ~torch.eye(dim, dtype=torch.bool)
        assert (parts[:, off] == 0).all() and (parts[:, ~off] != 0).all()
    else:
        assert action.size(dim) % dim != 0 and (jacobian != 0).any(0).all()


def test_an_inverse_that_is_not_found_is_no_sample() -> None:
    action = PlanarAction()
    z, h = draw(0, (3, 2), (3, 5))
    z[1] = torch.nan
    with pytest.raises(ConvergenceError, match=r"^a planar map "):
        action.inverse(z, h)
    assert AffineAction().inverse_residual is None


# --- what each action promises ----------------------------------------------------------------------------------------


@pytest.fixture(params=[(name, dim) for name in ACTIONS for dim in (1, 2, 5)], ids=lambda case: f"{case[0]}-{case[1]}")
def case(request: pytest.FixtureRequest) -> tuple[Action, int]:
    return ACTIONS[request.param[0]](), request.param[1]


def test_log_det_of_an_action_is_that_of_autograd(case: tuple[Action, int]) -> None:
    action, dim = case
    z, h = draw(dim, (40, dim), (40, action.size(dim)))
    z.requires_grad_()
    moved, log_det = action.forward(z, h)
    assert moved.shape == z.shape and log_det.shape == (len(z),)
    rows = [torch.autograd.grad(moved[:, i].sum(), z, retain_graph=True)[0] for i in range(dim)]
    torch.testing.assert_close(log_det, torch.linalg.slogdet(torch.stack(rows, 1)).logabsdet, rtol=0, atol=1e-9)


@torch.no_grad()
def test_round_trip_of_an_action(case: tuple[Action, int]) -> None:
    action, dim = case
    z, h = draw(dim, (40, dim), (40, action.size(dim)))
    torch.testing.assert_close(action.inverse(action.forward(z, h)[0], h), z, rtol=0, atol=1e-8)
    torch.testing.assert_close(action.forward(action.inverse(z, h), h)[0], z, rtol=0, atol=1e-8)
    assert action.inverse_residual is None or action.inverse_residual < 1e-9


@torch.no_grad()
def test_an_action_starts_exactly_as_the_identity(case: tuple[Action, int]) -> None:
    action, dim = case
    (z,) = draw(0, (200, dim))
    moved, log_det = action.forward(z, action.initial(dim).expand(len(z), -1))
    assert torch.equal(moved, z)
    assert not log_det.any()


@pytest.mark.parametrize("w", [0.0, 1e-12, 1e-5, 1.0, 30.0])
def test_a_planar_action_has_no_bad_parameters(w: float) -> None:
    """â is never longer than a, no slope is less than δ, and all gradients are finite, also as w goes to zero."""
    torch.manual_seed(0)
    action = PlanarAction()
    z = torch.randn(100, 2)
    h = torch.cat([5 * torch.randn(100, 2), w * torch.randn(100, 2), torch.randn(100, 1)], 1).requires_grad_()
    moved, log_det = action.forward(z, h)
    assert ((moved - z).norm(dim=1) <= h[:, :2].norm(dim=1) * (1 + 1e-4)).all()
    assert (log_det > math.log(LEAST_SLOPE) - 0.1).all()
    (gradient,) = torch.autograd.grad(moved.sum() + log_det.sum(), h)
    assert gradient.isfinite().all()
