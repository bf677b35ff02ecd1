"""Residual blocks: both log-determinants against autograd, gradients in expectation, and inverses that converge."""

from __future__ import annotations

import math
import weakref

import pytest
import torch
from torch import Tensor, nn

from cifrun.bijections import residual
from cifrun.bijections.residual import EXACT_IN_EVALUATION, ResidualBlock, _solved, log_det_unbiased, survival
from cifrun.errors import ConvergenceError
from cifrun.nets.lipschitz.layers import LipschitzLinear
from cifrun.nets.lipschitz.networks import LipschitzConvNet, LipschitzMLP
from cifrun.nets.lipschitz.power_iteration import Iterations
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


@pytest.mark.parametrize("training", [True, False])
def test_estimator_is_unbiased(training):
    """Mean of 2000 estimates within 4 standard errors at each of 3 points: false alarm below 2e-4."""
    f = block(4, "unbiased").train(training)
    f.exact_log_det = False  # as of many dimensions
    x = torch.randn(3, 4, dtype=torch.float64)
    truth = block(4, "exact")(x)[1]
    torch.manual_seed(1)
    n = 2000
    with torch.no_grad():  # the roulette's N is shared by a batch: many calls, not one long batch
        draws = torch.stack([f(x)[1] for _ in range(n)])
    error = draws.std(0) / math.sqrt(n)
    assert ((draws.mean(0) - truth).abs() <= 4 * error + 1e-9).all()


def test_gradient_of_the_estimator_is_unbiased():
    """Each parameter's mean gradient within 4.5 standard errors of the exact one: false alarm below 1e-2 in all."""
    exact, f = block(3, "exact", hidden=(6,)), block(3, "unbiased", hidden=(6,)).train()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def gradient(g):
        value = g(x)[1].sum()
        grads = torch.autograd.grad(value, [x, *g.parameters()], allow_unused=True, materialize_grads=True)
        return torch.cat([v.flatten() for v in grads])

    truth = gradient(exact)
    torch.manual_seed(2)
    n = 3000
    draws = torch.stack([gradient(f) for _ in range(n)])
    error = draws.std(0) / math.sqrt(n)
    assert truth.shape == draws.mean(0).shape
    assert ((draws.mean(0) - truth).abs() <= 4.5 * error + 1e-9).all()


@pytest.mark.parametrize(("training", "exact_terms"), [(True, 2), (False, 20)])
def test_terms_that_are_always_taken(training, exact_terms, monkeypatch):
    """At evaluation at least 20 terms are exact; beyond, the roulette goes on with probability 1/2, at times κ."""
    f = block(2, "unbiased").train(training)
    f.exact_log_det = False  # as of many dimensions
    calls = []
    real = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: calls.append(1) or real(*a, **k))
    counts = []
    torch.manual_seed(0)
    for _ in range(200):
        calls.clear()
        with torch.no_grad():
            f(torch.randn(2, 2, dtype=torch.float64))
        counts.append(len(calls))
    assert min(counts) == exact_terms
    # The excess has mean 0.95 + 0.05 · 0.9/0.1 = 1.4 and variance 14: 4 standard errors of 200 draws are 1.1.
    assert abs(sum(counts) / len(counts) - exact_terms - 1.4) < 1.1


@pytest.mark.parametrize("kappa", [0.5, 0.9, 0.98])
def test_the_roulette_has_a_finite_variance(kappa):
    """Σ κ^{2k} / P(N ≥ k), to which the variance of an estimate with terms of size κ^k is proportional."""
    assert sum(kappa ** (2 * k) / survival(k, kappa) for k in range(1000)) < 20 / (1 - kappa)
    assert [survival(k, kappa) for k in (-3, 0)] == [1, 1]


def test_terms_are_weighted_by_how_often_they_are_taken(monkeypatch):
    """20 000 draws, each frequency within 5 standard errors: one false alarm in 10⁵."""
    counts = []
    monkeypatch.setattr(residual._Unbiased, "apply", lambda g, weights, *rest: counts.append(len(weights)))
    net = block(2, kappa=0.9).net
    torch.manual_seed(0)
    for _ in range(20_000):
        log_det_unbiased(net, torch.zeros(1, 2, dtype=torch.float64), 2)
    for more in (0, 1, 2, 3, 5, 10, 20):
        p = survival(more, 0.9)
        found = sum(count >= 2 + more for count in counts) / len(counts)
        assert abs(found - p) <= 5 * math.sqrt(p * (1 - p) / len(counts))


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

    monkeypatch.setattr(residual, "MAX_ITERATIONS", 50)
    f = ResidualBlock((dim,), Fold())
    with pytest.raises(ConvergenceError, match=r"did not converge for \d+ of 4 points.*residual"):
        f.inverse(torch.full((4, dim), -1.0, dtype=torch.float64))


def test_memory_of_the_gradient_does_not_grow_with_the_terms():
    """What the graph keeps for backward is the same for 2 and for 60 terms."""

    def saved(terms):
        sizes = []
        net = block(10).net
        x = torch.randn(8, 10, dtype=torch.float64, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            torch.manual_seed(0)
            log_det_unbiased(net, x, terms)
        return sum(sizes)

    assert saved(60) == saved(2)


def test_the_estimate_of_images_is_that_of_their_log_determinant() -> None:
    """The mean of 2 000 estimates is within 4 standard errors for each of 3 images: a false alarm in 5 000 runs."""
    torch.manual_seed(1)
    net = LipschitzConvNet((2, 4, 4), [5, 5], 0.9, Iterations(eval=1000)).double()
    with torch.no_grad():
        for linear in net.linears:
            linear.weight.normal_()
            linear.bias.normal_()
    f = ResidualBlock((2, 4, 4), net.eval())
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    exact = torch.linalg.slogdet(torch.eye(32) + net.with_jacobian(x)[1])[1]
    torch.manual_seed(2)
    with torch.no_grad():
        found = f(x.repeat(2000, 1, 1, 1))[1].reshape(2000, 3)
    error = found.std(0) / 2000**0.5
    assert ((found.mean(0) - exact).abs() < 4 * error).all()
    assert (error < 0.05).all()


def test_what_is_kept_for_the_gradient_of_images_does_not_grow() -> None:
    """Neither with the terms of the series nor with the width of g, but for its weights."""

    class Box:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    def kept(hidden: int, terms: int) -> int:
        net = LipschitzConvNet((2, 8, 8), [hidden, hidden], 0.9)
        x = torch.randn(50, 2, 8, 8, requires_grad=True)
        boxes: list[weakref.ref[Box]] = []

        def pack(tensor: Tensor) -> Box:
            box = Box(tensor)
            boxes.append(weakref.ref(box))
            return box

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.tensor):
            value, log_det = log_det_unbiased(net, x, terms)
        alive = [box.tensor for reference in boxes if (box := reference()) is not None]
        (value.sum() + log_det.sum()).backward()
        assert x.grad is not None and x.grad.isfinite().all()
        return sum(tensor.numel() for tensor in alive if tensor.shape[:1] == (50,))

    counts = {kept(hidden, terms) for hidden in (4, 32) for terms in (1, 12)}
    assert len(counts) == 1 and counts.pop() <= 3 * 50 * 2 * 8 * 8


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
