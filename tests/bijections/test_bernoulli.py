"""The autoencoder of binary pixels: its bounds against the probability itself, summed over a grid of z."""

from __future__ import annotations

import torch

from cifrun.bijections.bernoulli import BernoulliDecoder
from cifrun.cif.model import Model
from cifrun.cif.step import Step


def small(dim: int = 1) -> Model:
    torch.manual_seed(0)
    model = Model([Step(BernoulliDecoder((1, 2, 2), dim, [6]))]).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model.eval()


def every_image() -> torch.Tensor:
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).reshape(16, 1, 2, 2).double()


@torch.no_grad()
def probabilities(model: Model) -> torch.Tensor:
    """P(x) = ∫ p(x | z) N(z; 0, 1) dz of all 16 images, by the trapezoidal rule."""
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]
    logits = model.steps[0].bijection.decoder(z)
    weight = torch.exp(-0.5 * z[:, 0] ** 2) * (18 / 4000) / (2 * torch.pi) ** 0.5
    each = torch.exp(every_image().flatten(1) @ logits.T - torch.nn.functional.softplus(logits).sum(1))
    return each @ weight


@torch.no_grad()
def test_the_estimate_converges_to_the_probability() -> None:
    model = small()
    truth = probabilities(model)
    torch.testing.assert_close(truth.sum(), torch.tensor(1.0, dtype=torch.float64))
    torch.manual_seed(1)
    log_w = model.log_w(every_image(), 20_000)
    # Each w is an unbiased estimate of P(x): 5 standard errors, a false alarm in 100 000 runs.
    w = log_w.exp()
    assert ((w.mean(0) - truth).abs() < 5 * w.std(0) / 20_000**0.5).all()
    assert (log_w.mean(0) < truth.log()).all()
    assert model.indexed and not model.exact
    estimate = model.log_prob(every_image(), importance_samples=5000, chunk_size=4000)
    torch.testing.assert_close(estimate, truth.log(), rtol=0, atol=0.1)


@torch.no_grad()
def test_samples_have_these_probabilities() -> None:
    model = small()
    samples = model.sample(40_000, seed=2).flatten(1)
    counts = (samples @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)).long().bincount(minlength=16)
    truth = probabilities(model)
    deviation = (counts / 40_000 - truth) / (truth * (1 - truth) / 40_000).sqrt()
    assert deviation.abs().max() < 5


def test_gradients_reach_every_weight() -> None:
    model = small(3)
    (-model.log_w(every_image(), 2).mean()).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
