"""A model as a distribution of PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import (
    AffineTransform,
    Independent,
    Normal,
    TransformedDistribution,
    kl_divergence,
    register_kl,
)

import cifrun
from cifrun.api.distribution import FlowDistribution
from tests.helpers import randomise


@pytest.fixture(scope="module")
def model() -> cifrun.Flow:
    model = cifrun.CIF("maf", 3, depth=2, hidden=[8], index_dim=2).eval()
    randomise(model, 0.2)
    return model


def test_shapes_are_those_of_a_distribution(model: cifrun.Flow) -> None:
    dist = model.distribution()
    assert dist.event_shape == (3,) and dist.batch_shape == () and dist.has_rsample
    for shape in ((), (5,), (2, 3)):
        draws = dist.sample(shape)
        assert draws.shape == (*shape, 3) and not draws.requires_grad
        assert dist.support.check(draws).all()
        assert dist.log_prob(draws).shape == shape
        assert dist.rsample(shape).requires_grad


def test_it_is_the_density_of_the_model(model: cifrun.Flow) -> None:
    x = torch.randn(4, 3)
    torch.manual_seed(0)
    found = model.distribution(importance_samples=6).log_prob(x)
    torch.manual_seed(0)
    assert torch.equal(found, model.log_prob(x, importance_samples=6))
    torch.manual_seed(1)
    draws = model.distribution().sample((7,))
    torch.manual_seed(1)
    assert torch.equal(draws, model.sample(7))


def test_values_of_another_precision_and_of_another_shape(model: cifrun.Flow) -> None:
    dist = model.distribution(importance_samples=2)
    assert dist.log_prob(torch.zeros(2, 3, dtype=torch.float64)).dtype == torch.float64
    with pytest.raises(ValueError, match=r"which should end in \(3,\)|where the last of it"):
        dist.log_prob(torch.zeros(3, 2))


def test_its_draws_carry_gradients(model: cifrun.Flow) -> None:
    model.zero_grad()
    model.distribution().rsample((5,)).square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_pixels_of_zero_and_one_have_no_rsample() -> None:
    dist = cifrun.CIF("bernoulli_vae", (1, 4, 4)).distribution()
    assert not dist.has_rsample and dist.sample((2,)).shape == (2, 1, 4, 4)
    with pytest.raises(NotImplementedError, match="discrete"):
        dist.rsample((2,))


def test_it_takes_part_where_distributions_are_registered(model: cifrun.Flow) -> None:
    """A divergence of one's own, by draws: KL(p ‖ p) = 0."""

    @register_kl(FlowDistribution, FlowDistribution)
    def by_draws(p: FlowDistribution, q: FlowDistribution) -> torch.Tensor:
        x = p.sample((50,))
        torch.manual_seed(0)
        first = p.log_prob(x)
        torch.manual_seed(0)
        return (first - q.log_prob(x)).mean()

    dist = model.distribution()
    assert kl_divergence(dist, dist).item() == 0


def test_expanded_to_a_batch_it_has_the_shapes_of_one(model: cifrun.Flow) -> None:
    dist = model.distribution(importance_samples=2).expand((4, 1)).expand(torch.Size((4, 5)))
    like = Independent(Normal(torch.zeros(3), 1.0), 1).expand((4, 5))
    assert isinstance(dist, FlowDistribution) and dist.model is model and dist.importance_samples == 2
    assert (dist.batch_shape, dist.event_shape) == (like.batch_shape, like.event_shape)
    for shape in ((), (2,), (2, 6)):
        draws = dist.sample(shape)
        assert draws.shape == like.sample(shape).shape == (*shape, 4, 5, 3)
        assert len(draws.reshape(-1, 3).unique(dim=0)) == draws.numel() // 3  # no draw is there twice
        assert dist.rsample(shape).shape == draws.shape and dist.rsample(shape).requires_grad
        assert dist.log_prob(draws).shape == (*shape, 4, 5)
    for shape in ((), (5,), (4, 1), (7, 1, 5), (4, 5)):
        assert dist.log_prob(torch.zeros(*shape, 3)).shape == like.log_prob(torch.zeros(*shape, 3)).shape


def test_expanding_changes_no_density() -> None:
    dist = cifrun.Flow("maf", 3, depth=2, hidden=[8]).distribution()
    x = torch.randn(6, 1, 3)
    one, many = dist.log_prob(x), dist.expand((5,)).log_prob(x)
    assert torch.equal(many, one.expand(6, 5))
    torch.manual_seed(0)
    draws = dist.expand((4,)).rsample((2,))
    torch.manual_seed(0)
    assert torch.equal(draws, dist.rsample((2, 4)))


def test_what_can_not_be_broadcast_is_refused(model: cifrun.Flow) -> None:
    dist = model.distribution(importance_samples=2).expand((4,))
    with pytest.raises(ValueError, match=r"\(5,\) can't be broadcast with the batch shape \(4,\)"):
        dist.log_prob(torch.zeros(5, 3))
    with pytest.raises(RuntimeError, match="must match the existing size"):
        dist.expand((5,))


def test_it_takes_part_in_distributions_that_are_made_of_others(model: cifrun.Flow) -> None:
    dist = cifrun.Flow("maf", 3, depth=2, hidden=[8]).distribution()
    x = torch.randn(6, 4, 3)
    assert Independent(dist.expand((4,)), 1).log_prob(x).shape == (6,)
    wide = TransformedDistribution(dist, [AffineTransform(0.0, 2.0, event_dim=1)])
    torch.testing.assert_close(wide.log_prob(2 * x), dist.log_prob(x) - 3 * torch.tensor(2.0).log())
    assert wide.rsample((2, 4)).shape == (2, 4, 3)
