"""What weights say of themselves: draws from known Pareto distributions, and a model whose log p(x) is closed form.

Seeds are fixed, and bounds are three standard errors or more.
"""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from cifrun.bijections.base import Identity
from cifrun.cif import paths
from cifrun.cif.actions import AffineAction
from cifrun.cif.index import Index
from cifrun.cif.model import Model
from cifrun.cif.step import Step
from cifrun.diagnostics import trust


def pareto_draws(k: float, n: int, batch: int, seed: int = 0) -> torch.Tensor:
    """Generalised Pareto of shape k and scale 1 from its quantiles."""
    u = torch.rand(n, batch, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.expm1(-k * torch.log1p(-u)) / k


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.5, 0.7, 1.2])
def test_the_fit_finds_the_shape(k: float) -> None:
    """The maximum-likelihood estimate has the asymptotic standard deviation (1 + k) / √n."""
    n, batch = 2000, 50
    shape, scale = trust.pareto_fit(3.0 * pareto_draws(k, n, batch))
    error = (1 + abs(k)) / math.sqrt(n * batch)
    assert abs(shape.mean().item() - k) < 4 * error + 0.005
    assert shape.std().item() == pytest.approx((1 + k) / math.sqrt(n), rel=0.4)
    assert scale.mean().item() == pytest.approx(3.0, rel=0.03)


@pytest.mark.parametrize("k", [0.2, 0.7])
def test_the_fit_agrees_with_maximum_likelihood(k: float) -> None:
    y = pareto_draws(k, 4000, 3, seed=1)
    shape, scale = trust.pareto_fit(y)
    for column in range(3):
        mle, _, sigma = stats.genpareto.fit(y[:, column].numpy(), floc=0)
        assert shape[column].item() == pytest.approx(mle, abs=0.01)
        assert scale[column].item() == pytest.approx(sigma, rel=0.02)


@pytest.mark.parametrize(("k", "word"), [(0.1, "good"), (0.6, "usable"), (0.85, "unreliable"), (1.3, "not to be")])
def test_weights_with_a_tail_of_known_shape(k: float, word: str) -> None:
    u = torch.rand(20_000, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    estimate = trust.pareto_k(-k * torch.log(u) - 1e3).mean().item()  # a Pareto tail of index 1/k, at any scale
    assert estimate == pytest.approx(k, abs=0.05)
    assert trust.verdict(estimate).startswith(word)


def test_weights_that_do_not_vary_have_no_tail() -> None:
    k = trust.pareto_k(torch.stack([torch.full((200,), -3.0), torch.randn(200)], 1) + 1e-6 * torch.rand(200, 2))
    assert k[0] == trust.NO_TAIL and k[1] > 0


def test_weights_that_are_no_numbers_or_all_zero_are_never_good() -> None:
    log_w = torch.randn(200, 6)
    log_w[3, 0] = torch.nan
    log_w[:, 1] = torch.nan
    log_w[3, 2] = torch.inf
    log_w[:, 3] = -torch.inf
    log_w[:100, 4] = -torch.inf  # half of them are zero: the others say what the tail is
    k = trust.pareto_k(log_w)
    assert (k[:4] == trust.NO_WEIGHTS).all() and k[4:].isfinite().all()
    assert trust.verdict(k[0].item()).startswith("not to be trusted: there are weights that are no finite numbers")


def test_many_equal_weights_and_a_few_large_ones() -> None:
    log_w = torch.zeros(500, 1)
    log_w[:5, 0] = torch.tensor([1.0, 3.0, 6.0, 9.0, 12.0])
    assert trust.pareto_k(log_w).item() > trust.HIGH


def test_few_weights_have_no_tail_to_speak_of() -> None:
    with pytest.raises(ValueError, match="at least 21"):
        trust.pareto_k(torch.randn(20, 3))
    assert trust.pareto_k(torch.randn(21, 3)).isfinite().all()


def test_groups_are_disjoint_and_all_used() -> None:
    log_w = torch.randn(7, 4, dtype=torch.float64)
    by_hand = torch.stack([torch.logsumexp(log_w[a : a + 3], 0) - math.log(3) for a in (0, 3)]).mean(0)
    torch.testing.assert_close(trust.iwae(log_w, 3), by_hand)
    exact = torch.randn(4, dtype=torch.float64)
    pairs = torch.stack([torch.logaddexp(row, exact) - math.log(2) for row in log_w]).mean(0)
    torch.testing.assert_close(trust.upper(exact, log_w, 2), pairs)
    assert trust.upper(exact, log_w, 1) is exact
    assert trust.curve_counts(500) == [1, 2, 5, 10, 20, 50, 100, 500] and trust.curve_counts(1) == [1]
    assert trust.curve_counts(37) == [1, 2, 37]


@pytest.fixture
def linear_gaussian() -> tuple[Model, torch.distributions.MultivariateNormal]:
    """x = z − A u − b with z and u standard normal, so x ~ N(−b, I + A Aᵀ); and a q that is too wide."""
    index = Index((2,), (2,), AffineAction(), dim=2, st=[], p="standard_normal", q=[])
    model = Model([Step(Identity((2,)), index)]).double().eval()
    index = model.steps[0].index
    a, b = torch.tensor([[1.5, 0.3], [-0.5, 1.0]]).double(), torch.tensor([0.3, -1.0]).double()
    covariance = torch.eye(2).double() + a @ a.T
    with torch.no_grad():
        weight, bias = index.st.parameters()
        weight.copy_(torch.cat([torch.zeros(2, 2), a]))
        bias.copy_(torch.cat([torch.zeros(2), b]))
        # The posterior's mean is −Aᵀ (I + A Aᵀ)⁻¹ (x + b); its deviation is at most 1.
        gain = -a.T @ torch.linalg.inv(covariance)
        weight, bias = index.q_net.parameters()
        weight.copy_(torch.cat([0.7 * gain, torch.zeros(2, 2)]))
        bias.copy_(torch.cat([0.7 * gain @ b, torch.tensor([-0.1, 0.1])]))
    return model, torch.distributions.MultivariateNormal(-b, covariance)


@torch.no_grad()
def test_the_bracket_holds_a_likelihood_in_closed_form(linear_gaussian) -> None:
    """Lower ≤ exact ≤ upper for each m, within three paired standard errors, and the gap shrinks to nothing."""
    model, exact = linear_gaussian
    torch.manual_seed(0)
    path = paths.generate(model, torch.randn(2000, 2, dtype=torch.float64))
    log_w_exact, log_w = paths.log_weight(model, path), model.log_w(path.x, 200)
    log_p = exact.log_prob(path.x)
    for m in (1, 2, 5, 20, 200):
        below, above = log_p - trust.iwae(log_w, m), trust.upper(log_w_exact, log_w, m) - log_p
        for excess in (below, above):
            assert excess.mean() > -3 * excess.std() / math.sqrt(len(excess))
    rows = trust.bracket(log_w_exact, log_w)
    gaps = [row["gap"] for row in rows]
    assert gaps == sorted(gaps, reverse=True) and gaps[0] > 0.3 and gaps[-1] < 0.02
    last = rows[-1]
    assert last["lower"] - 0.01 < log_p.mean() < last["upper"] + 0.01
    assert all(row["gap_se"] < row["lower_se"] for row in rows)  # paired


@torch.no_grad()
def test_the_exact_posterior_leaves_no_gap(linear_gaussian) -> None:
    """q(u | x) = p(u | x), here for A = 0: each weight is p(x), and both bounds are exact for m = 1."""
    model, _ = linear_gaussian
    index = model.steps[0].index
    for net in (index.st, index.q_net):
        for parameter in net.parameters():
            parameter.zero_()
    path = paths.generate(model, torch.randn(50, 2, dtype=torch.float64))
    rows = trust.bracket(paths.log_weight(model, path), model.log_w(path.x, 10))
    assert abs(rows[0]["gap"]) < 1e-12
    truth = stats.norm.logpdf(path.x.numpy()).sum(1).mean()
    assert rows[0]["lower"] == pytest.approx(truth)


@torch.no_grad()
def test_the_curve_rises_and_its_last_entry_is_the_estimate(linear_gaussian) -> None:
    model, exact = linear_gaussian
    torch.manual_seed(1)
    x = exact.sample((500,))
    log_w = model.log_w(x, 100)
    rows = trust.iwae_curve(log_w)
    values = [row["log_likelihood"] for row in rows]
    assert values == sorted(values)
    assert values[0] == pytest.approx(log_w.mean().item())
    assert values[-1] == pytest.approx((log_w.logsumexp(0) - math.log(100)).mean().item())
    assert rows[-1]["below"] == 0 and all(row["below_se"] < row["log_likelihood_se"] for row in rows)
