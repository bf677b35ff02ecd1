"""A mixture of factor analysers as p_0: its density, its draws, how it is fitted, and the run that begins with it."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from sklearn.decomposition import FactorAnalysis
from torch import Tensor
from torch.distributions import MultivariateNormal

from cifrun.bases.factors import FactorAnalysers, Fitted, _groups, maximise
from cifrun.build import load_model
from cifrun.cli.hydra_app import configure
from cifrun.runs.directory import RunDirectory
from cifrun.training.loop import train
from tests.training.test_loop import same

QUICK = ["trainer.progress=false", "trainer.plot_every=0", "diagnostics.enabled=false", "device=cpu"]


def points(count: int, size: int = 6) -> Tensor:
    """Of two groups, each about a plane of its own, (count, size), float64."""
    generator = torch.Generator().manual_seed(5)
    planes = torch.randn(2, 2, size, generator=generator).double()
    group = torch.randint(2, (count,), generator=generator)
    factors = torch.randn(count, 1, 2, generator=generator).double()
    noise = torch.randn(count, size, generator=generator).double()
    return (factors @ planes[group])[:, 0] + 0.7 * noise + 4.0 * group[:, None]


def fitted(moved: float = 0.0) -> FactorAnalysers:
    """Fitted to such points, in double precision; then with all its weights moved at random."""
    base, x = FactorAnalysers((6,), 3, 2).double(), points(900)
    base.fit(x[:600], x[600:], 0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weights in base.parameters():
            weights += moved * torch.randn(weights.shape, generator=generator).double()
    return base


def gaussians(base: FactorAnalysers) -> tuple[Tensor, MultivariateNormal]:
    """Weights, and N(μ_k − D_k^½ S_k⁻¹ b_k, D_k^½ S_k⁻¹ (I + V_k V_kᵀ) S_k⁻¹ D_k^½)."""
    shift, log_scale, loadings = (part.detach() for part in base._trained())
    widths = base.scales[: base.used] * torch.exp(-log_scale)
    inner = torch.eye(len(widths[0])).double() + loadings @ loadings.mT
    covariance = widths[:, :, None] * inner * widths[:, None, :]
    return torch.softmax(base.logits.detach()[: base.used], 0), MultivariateNormal(
        base.means[: base.used] - widths * shift, covariance
    )


@pytest.mark.parametrize("moved", [0.0, 0.3])
def test_its_density_is_that_of_its_gaussians(moved: float) -> None:
    base, x = fitted(moved), points(200)
    weights, normal = gaussians(base)
    expected = (normal.log_prob(x[:, None]) + weights.log()).logsumexp(1)
    torch.testing.assert_close(base.log_prob(x), expected, rtol=1e-9, atol=1e-9)


def test_before_it_is_fitted_it_is_standard_normal() -> None:
    base, z = FactorAnalysers((2, 3), 4, 2).double(), torch.randn(50, 2, 3).double()
    assert not base.fitted and base.wants_data
    torch.testing.assert_close(base.log_prob(z), torch.distributions.Normal(0, 1).log_prob(z).sum((1, 2)))
    assert base.draw(5, z).shape == (5, 2, 3)


def test_draws_have_the_moments_of_the_density() -> None:
    """Means and second moments of 50 000 draws, within 5 of their standard errors: of 42 numbers of a seed that is
    fixed, a right program would fail in 1 of 40 000 seeds."""
    base = fitted(0.3)
    weights, normal = gaussians(base)
    torch.manual_seed(1)
    z = base.draw(50_000, torch.empty(0, dtype=torch.float64))
    second = normal.covariance_matrix + normal.mean[:, :, None] * normal.mean[:, None, :]
    products = (z[:, :, None] * z[:, None, :]).flatten(1)
    for values, expected in ((z, normal.mean), (products, second.flatten(1))):
        error = values.std(0) / math.sqrt(len(values))
        assert bool(((values.mean(0) - weights @ expected).abs() < 5 * error).all())


def test_its_gradient_is_that_of_finite_differences() -> None:
    base, z = fitted(0.3), points(4).requires_grad_()
    assert torch.autograd.gradcheck(base.log_prob, z)
    names = [name for name, _ in base.named_parameters()]

    def density(*weights: Tensor) -> Tensor:
        return torch.func.functional_call(base, dict(zip(names, weights, strict=True)), (z.detach(),), strict=False)

    base.forward = base.log_prob  # type: ignore[method-assign]
    assert torch.autograd.gradcheck(density, list(base.parameters()))


def test_no_round_lowers_the_likelihood_and_one_analyser_is_that_of_scikit_learn() -> None:
    x = points(600)
    x = (x - x.mean(0)) / x.std(0, correction=0)
    for count in (1, 2, 3):
        found, scores = _groups(x, count, 2, 0), list[float]()
        for _ in range(3000 if count == 1 else 100):
            scores.append(found.log_probs(x).logsumexp(1).mean().item())
            found = maximise(found, x)
        assert all(after > before - 1e-9 for before, after in pairwise(scores))
        if count == 1:
            theirs = FactorAnalysis(2, tol=1e-6, max_iter=100_000, svd_method="lapack").fit(x.numpy())
            assert scores[-1] == pytest.approx(theirs.score(x.numpy()), abs=1e-3)
        if count == 2:
            assert scores[-1] > theirs.score(x.numpy()) + 0.5, "there are two groups"


def test_a_component_that_nobody_belongs_to_stays_as_it_is() -> None:
    x = points(100)
    found = _groups(x, 2, 2, 0)
    far = Fitted(found.weights, found.means + torch.tensor([[0.0], [1e6]]), found.scales, found.loadings)
    after = maximise(far, x)
    assert all(bool(part.isfinite().all()) for part in after) and torch.equal(after.means[1], far.means[1])


def test_a_run_begins_with_it_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    small = ["dataset=digits", "flow=realnvp_image", "flow.hidden=[4]", "flow.depth=1", "trainer.batch_size=32"]
    words = [*QUICK, *small, "base=factors", "base.components=5", "base.rank=3", "optimizer.schedule=none"]
    settings = [*words, "trainer.valid_every=2", "dataset.num_train=300", "dataset.num_test=50"]
    whole = train(configure([*settings, "trainer.max_steps=4"]), tmp_path / "whole")
    train(configure([*settings, "trainer.max_steps=2"]), tmp_path / "parts")
    parts = train(configure([*settings, "trainer.max_steps=4"]), tmp_path / "parts", resume=True)
    assert whole["test"]["log_likelihood"] == parts["test"]["log_likelihood"]
    runs = [RunDirectory(tmp_path / name) for name in ("whole", "parts")]
    assert same(*(run.load_checkpoint("latest") for run in runs))
    model = load_model(runs[0])
    assert model.base.describe() == "p_0: mixture of 5 factor analysers of rank 3"
    assert model.sample(3).shape == (3, 1, 8, 8)


def test_mixed_precision_leaves_it_as_it_is() -> None:
    base, z = fitted().float(), points(50).float()
    expected = base.log_prob(z)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(base.log_prob(z), expected)


def test_single_precision_survives_factors_far_longer_than_the_noise() -> None:
    """M = I + VᵀV has a condition of 10⁹ here, where a factor in single precision is nats off."""
    base, z = fitted(), points(20)
    with torch.no_grad():
        v = base.loadings.view(3, 6, 2)
        v[:, :, 0], v[:, :, 1] = 1e4, 1e4
    expected = base.log_prob(z)
    torch.testing.assert_close(base.float().log_prob(z.float()).double(), expected, rtol=1e-2, atol=0.5)
