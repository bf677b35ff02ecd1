"""The estimate of a log-determinant from its series: unbiased, gradients too; its variance, its memory, its error."""

from __future__ import annotations

import math
import weakref

import pytest
import torch
from torch import Tensor

from cifrun.bijections import log_det_series
from cifrun.bijections.log_det_series import log_det_unbiased, more_terms, survival
from cifrun.bijections.residual import ResidualBlock
from cifrun.nets._kernels import rows
from cifrun.nets.lipschitz.networks import LipschitzConvNet
from cifrun.nets.lipschitz.power_iteration import Iterations
from cifrun.nets.lipschitz.products import Differentiated
from tests.bijections.test_residual import block


@pytest.mark.parametrize("training", [True, False])
def test_estimator_is_unbiased(training):
    """Mean of 2000 estimates within 4 standard errors at each of 3 points: false alarm below 2e-4."""
    f = block(4, "unbiased").train(training)
    f.exact_log_det = False  # as of many dimensions
    x = torch.randn(3, 4, dtype=torch.float64)
    truth = block(4, "exact")(x)[1]
    torch.manual_seed(1)
    n = 2000
    with torch.no_grad():  # in training the roulette's N is shared by a batch: many calls, not one long batch
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
    real = rows.pulled
    monkeypatch.setattr(rows, "pulled", lambda *given: calls.append(1) or real(*given))
    counts = []
    torch.manual_seed(0)
    for _ in range(200):
        calls.clear()
        with torch.no_grad():
            f(torch.randn(1, 2, dtype=torch.float64))
        counts.append(len(calls))
    assert min(counts) == exact_terms
    # The excess has mean 0.99 + 0.01 · 0.9/0.1 = 1.08 and variance 3.5: 4 standard errors of 200 draws are 0.53.
    assert abs(sum(counts) / len(counts) - exact_terms - 1.08) < 0.53


@pytest.mark.parametrize("kappa", [0.5, 0.9, 0.98])
def test_the_roulette_has_a_finite_variance(kappa):
    """Σ κ^{2k} / P(N ≥ k), to which the variance of an estimate with terms of size κ^k is proportional."""
    assert sum(kappa ** (2 * k) / survival(k, kappa) for k in range(1000)) < 100 / (1 - kappa)
    assert [survival(k, kappa) for k in (-3, 0)] == [1, 1]


def test_terms_are_weighted_by_how_often_they_are_taken(monkeypatch):
    """20 000 draws, each frequency within 5 standard errors: one false alarm in 10⁵."""
    counts = []
    monkeypatch.setattr(log_det_series._Unbiased, "apply", lambda g, weights, *rest: counts.append(len(weights)))
    net = block(2, kappa=0.9).net
    torch.manual_seed(0)
    for _ in range(20_000):
        log_det_unbiased(net, torch.zeros(1, 2, dtype=torch.float64), 2)
    for more in (0, 1, 2, 3, 5, 10, 20):
        p = survival(more, 0.9)
        found = sum(count >= 2 + more for count in counts) / len(counts)
        assert abs(found - p) <= 5 * math.sqrt(p * (1 - p) / len(counts))


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


def test_each_row_has_its_own_number_of_terms() -> None:
    """In evaluation. 200 000 draws, each frequency within 5 standard errors: one false alarm in 10⁵."""
    torch.manual_seed(0)
    found = more_terms(0.98, torch.randn(200_000))
    assert found.shape == (200_000,) and found.min() == 0
    for more in (1, 2, 3, 5, 10, 50, 200):
        p = survival(more, 0.98)
        assert abs((found >= more).double().mean().item() - p) <= 5 * math.sqrt(p * (1 - p) / len(found))


def test_the_error_of_a_mean_over_rows_is_what_the_rows_say() -> None:
    """In evaluation the estimates of different rows are independent, so that s/√n is the error of their mean.

    For J = 0.98 I in 4 dimensions, where nearly all of the error is that of the number of terms. The variance of 400
    means of 50 rows is within a factor of 1.6 of s²/n: by the scatter of the kurtosis a false alarm in 10⁴ (over 20
    seeds the ratio was between 0.85 and 1.12). With one number for all rows the ratio is 20 to 27.
    """
    torch.manual_seed(0)
    f = block(4, "unbiased", kappa=0.98).eval()
    f.exact_log_det = False
    f.net.products = lambda x: (Differentiated(lambda x: 0.98 * x), [])  # type: ignore[method-assign]
    with torch.no_grad():
        draws = log_det_unbiased(f.net, torch.zeros(50, 4, dtype=torch.float64), 2, each=True)[1]
        means = torch.stack(
            [log_det_unbiased(f.net, torch.zeros(50, 4, dtype=torch.float64), 2, each=True)[1] for _ in range(400)]
        )
    assert draws.shape == (50,)
    ratio = means.mean(1).var() / (means.var() / 50)
    assert 1 / 1.6 < ratio < 1.6


@pytest.mark.parametrize("count", [0, 1, 7])
def test_rows_that_end_early_are_left_out_and_change_nothing(count: int) -> None:
    """Value and gradient are those of each row by itself, with the same number of terms and the same v."""
    f = block(3, "unbiased").eval()
    x = torch.randn(count, 3, dtype=torch.float64, requires_grad=True)
    v = torch.randn(count, 3, dtype=torch.float64)
    terms = torch.tensor([3, 0, 1, 12, 2, 2, 5])[:count]
    weights = log_det_series.roulette(0.9, 2, 14)
    apply, (g, theta) = log_det_series._Unbiased.apply, f.net.products(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_det_series, "probe", lambda value: v[: len(value)])
        value, log_det = apply(g, weights, 2 + terms, x, *theta)
        (gradient,) = torch.autograd.grad(log_det.sum() + (value**2).sum(), x)
        for i in range(count):
            alone = x.detach()[i : i + 1].requires_grad_()
            patch.setattr(log_det_series, "probe", lambda value, i=i: v[i : i + 1])
            other, found = apply(g, weights[: 2 + int(terms[i])], None, alone, *theta)
            torch.testing.assert_close(found[0], log_det[i])
            torch.testing.assert_close(torch.autograd.grad(found.sum() + (other**2).sum(), alone)[0][0], gradient[i])
