"""Derivatives of x = F(z; u), in z and in the weights: of closed forms, root searches, fixed points and solvers alike.

F⁻¹(F(z; u, θ); u, θ) = z for all z and θ. So the derivative of the left side in θ is 0 and that in z the identity,
whatever F is: what is wrong in the derivatives of F shows, as those of F⁻¹ are autograd's own.
"""

from __future__ import annotations

import pytest
import torch

from cifrun.build import build_model
from cifrun.cif.model import Model
from cifrun.registry import FLOWS
from tests.helpers import randomise, small_config

#: A solver of differential equations leaves its tolerance; everything else rounding.
TOLERANCE = {"cnf": 1e-4}


def model_of(family: str, cif: bool) -> Model:
    images = FLOWS[family].images
    model = build_model(small_config(family, cif), (1, 8, 8) if images else (3,)).double().eval()
    randomise(model, 0.02 if images else 0.2)
    model.prepare()
    return model


CASES = [
    (family, cif)
    for family in FLOWS
    for cif in (False, True)
    if not FLOWS[family].binary and (cif or not FLOWS[family].needs_index)
]


@pytest.mark.parametrize(("family", "cif"), CASES)
def test_there_and_back_has_the_derivative_of_the_identity(family: str, cif: bool) -> None:
    model = model_of(family, cif)
    torch.manual_seed(1)
    z = torch.randn(5, *model.latent_shape, dtype=torch.float64, requires_grad=True)
    moves = list(model.outward(z))
    x = moves[-1].z
    *_, last = model.inward(x, [move.u for move in reversed(moves)])
    direction = torch.randn_like(z)
    parameters = list(model.parameters())
    found = torch.autograd.grad((last.z * direction).sum(), [z, *parameters], allow_unused=True, retain_graph=True)
    one_way = torch.autograd.grad(x.sum(), parameters, allow_unused=True)
    scale = max(g.abs().max().item() for g in one_way if g is not None)
    tolerance = TOLERANCE.get(family, 1e-10)
    assert scale > 1e-3  # there are derivatives to lose
    torch.testing.assert_close(found[0], direction, rtol=0, atol=tolerance)
    assert max(g.abs().max().item() for g in found[1:] if g is not None) < tolerance * max(1.0, scale)


@pytest.mark.parametrize(("family", "cif"), CASES)
def test_draws_and_their_log_densities_can_be_differentiated(family: str, cif: bool) -> None:
    """E log p(x) over the model's own draws, −H(p): its derivative reaches all weights that the density knows."""
    model = model_of(family, cif)
    x, log_prob = model.rsample_and_log_prob(4, importance_samples=3, seed=0)
    assert x.shape == (4, *model.shape) and log_prob.shape == (4,)
    with torch.no_grad():
        torch.testing.assert_close(x.detach(), model.rsample(4, seed=0))
    gradients = torch.autograd.grad(log_prob.sum(), list(model.parameters()), allow_unused=True)
    assert all(g is None or g.isfinite().all() for g in gradients)
    assert any(g is not None and g.abs().max() > 0 for g in gradients)


def test_the_entropy_of_a_scaling_has_the_derivative_of_the_closed_form() -> None:
    """For x = e^{−s} z + …, H(p) = Σ (½ log 2πe − s_i): ∂/∂s of the mean log-density of draws is 1 each."""
    model = build_model(small_config("affine", False, flow={"depth": 1}), (2,)).double()
    _, log_prob = model.rsample_and_log_prob(50, seed=3)
    affine = model.steps[0].bijection
    log_scale = dict(affine.named_parameters())["log_scale"]
    (gradient,) = torch.autograd.grad(log_prob.mean(), log_scale)
    torch.testing.assert_close(gradient, torch.ones_like(gradient), rtol=0, atol=1e-12)


def test_pixels_of_zero_and_one_have_no_derivative() -> None:
    model = build_model(small_config("bernoulli_vae", True), (1, 8, 8))
    with pytest.raises(NotImplementedError, match="discrete"):
        model.rsample(2)
