"""Residual blocks: both log-determinants against autograd, gradients in expectation, and inverses that converge."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cifrun.bijections import contraction, residual
from cifrun.bijections.residual import EXACT_IN_EVALUATION, ResidualBlock, _solved
from cifrun.errors import ConvergenceError
from cifrun.nets.lipschitz.layers import LipschitzLinear
from cifrun.nets.lipschitz.networks import LipschitzMLP
from tests.helpers import autograd_log_det


def block(dim, log_det="auto", kappa=0.9, hidden=(16, 16), scale=3.0, seed=0):
    """A block whose weights are large enough for the Lipschitz bound to bite."""
    torch.manual_seed(seed)
    net = LipschitzMLP(dim, list(hidden), kappa).double()
    with torch.no_grad():
        for linear in net.linears:
            linear.weight.normal_().mul_(scale)
            linear.reset_vectors()
    return ResidualBlock((dim,), net, log_det)


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 8])
def test_exact_log_det_is_autograds(dim):
    f = block(dim)
    assert f.exact_log_det
    x = torch.randn(9, dim, dtype=torch.float64)
    torch.testing.assert_close(f(x)[1], autograd_log_det(f, x), rtol=0, atol=1e-9)


def test_training_estimates_above_eight_dimensions_and_evaluation_above_many():
    assert [block(9, kind).exact_in_training for kind in ("auto", "exact", "unbiased")] == [False, True, False]
    assert block(9).exact_log_det and block(2, "unbiased").exact_log_det and block(EXACT_IN_EVALUATION).exact_log_det
    assert not block(EXACT_IN_EVALUATION + 1).exact_log_det and block(EXACT_IN_EVALUATION + 1, "exact").exact_log_det


@pytest.mark.parametrize("dim", [9, 40])
def test_evaluation_is_exact_where_training_estimates(dim, monkeypatch):
    f = block(dim).eval()
    x = torch.randn(5, dim, dtype=torch.float64)
    torch.testing.assert_close(f(x)[1], autograd_log_det(f, x), rtol=0, atol=1e-9)
    with torch.no_grad():
        whole = f(x)
        monkeypatch.setattr(residual, "PASS", 1)  # one datum at a time
        assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(f(x), whole, strict=True))


def test_no_gradient_where_none_is_wanted():
    f = block(10).eval().requires_grad_(False)
    z, log_det = f(torch.randn(3, 10, dtype=torch.float64))
    assert not z.requires_grad and not log_det.requires_grad
    with torch.inference_mode():
        assert f(torch.randn(3, 10, dtype=torch.float64))[1].isfinite().all()


@pytest.mark.parametrize("dim", [1, 2, 8, 12])
@pytest.mark.parametrize("kappa", [0.5, 0.98])
def test_inverse_converges_and_says_how_far(dim, kappa):
    f = block(dim, kappa=kappa).eval()
    LipschitzLinear.prepare_all(f.net.linears)
    z = 5 * torch.randn(300, dim, dtype=torch.float64)
    x = f.inverse(z)
    assert (f(x)[0] - z).abs().max() < 1e-10
    assert 0 <= f.inverse_residual < 1e-13
    torch.testing.assert_close(f.inverse(f(x)[0]), x, rtol=0, atol=1e-9)


def test_inverse_in_single_precision():
    f = block(2).float().eval()
    z = 5 * torch.randn(2000, 2)
    assert (f(f.inverse(z))[0] - z).abs().max() < 2e-5


@pytest.mark.parametrize("dim", [2, 12])
def test_an_inverse_that_does_not_exist_is_an_error(dim, monkeypatch):
    """g(x) = −2x is no contraction, and x + g(x)³-like maps have no inverse near a fold: no sample comes back."""

    class Fold(nn.Module):
        def forward(self, x):
            return x**2 - x  # x + g(x) = x², which never is negative

        def with_jacobian(self, x):
            return self(x), torch.diag_embed(2 * x - 1)

    monkeypatch.setattr(contraction, "MAX_ITERATIONS", 50)
    f = ResidualBlock((dim,), Fold())
    with pytest.raises(ConvergenceError, match=r"did not converge for \d+ of 4 points.*residual"):
        f.inverse(torch.full((4, dim), -1.0, dtype=torch.float64))


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_inverse_is_the_fixed_point_of_the_contraction(dim):
    f = block(dim).eval()
    z = 5 * torch.randn(200, dim, dtype=torch.float64)
    x = z
    with torch.no_grad():
        for _ in range(400):  # 0.9⁴⁰⁰ < 1e-18
            x = z - f.net(x)
    torch.testing.assert_close(f.inverse(z), x, rtol=0, atol=1e-11)


def test_an_inverse_takes_few_jacobians(monkeypatch):
    """One a point at the start, and few later: a pass for a Jacobian costs 1 + D times as much as one without."""
    points = {"with_jacobian": 0, "forward": 0}
    for name in points:
        real = getattr(LipschitzMLP, name)
        monkeypatch.setattr(
            LipschitzMLP,
            name,
            lambda net, x, name=name, real=real: points.update({name: points[name] + len(x)}) or real(net, x),
        )
    block(2, hidden=(64, 64), scale=0.3).eval().inverse(torch.randn(1000, 2, dtype=torch.float64))
    assert 1000 <= points["with_jacobian"] < 1500
    assert 1000 <= points["forward"] < 10_000


def test_the_inverse_of_a_residual_block_has_the_inverse_jacobian() -> None:
    torch.manual_seed(0)
    f = ResidualBlock((3,), LipschitzMLP(3, [16], 0.9)).double().eval()
    z = torch.randn(3, dtype=torch.float64)
    x = f.inverse(z[None])[0].detach()
    forward, inverse = (
        torch.autograd.functional.jacobian(lambda v, way=way: way(v[None])[0], at)
        for way, at in ((lambda v: f(v)[0], x), (f.inverse, z))
    )
    torch.testing.assert_close(inverse @ forward, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_gradient_that_does_not_converge_is_a_sentence() -> None:
    """g(x) = −2x is no contraction, and w ← v + 2w grows for ever."""
    x = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ConvergenceError, match="gradient of the inverse"):
        _solved(-2 * x, x, torch.ones(2, 3, dtype=torch.float64))
