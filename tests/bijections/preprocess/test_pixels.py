"""The first steps of models of images: their inverses and Jacobians, and the bound that they leave intact."""

from __future__ import annotations

import math

import pytest
import torch

from cifrun.bijections.base import Bijection
from cifrun.bijections.linear import ElementwiseAffine
from cifrun.bijections.permutation import Flatten
from cifrun.bijections.preprocess.pixels import Centre, Logit
from cifrun.cif.model import Model
from cifrun.cif.step import Step
from cifrun.data.grey_levels import dequantize
from tests.helpers import autograd_log_det

SHAPE = (3, 2, 2)
STEPS: list[Bijection] = [Logit(SHAPE, 256, 0.05), Logit(SHAPE, 256, 1e-6), Logit(SHAPE, 17, 1e-6), Centre(SHAPE, 256)]
STEPS = [step.double() for step in [*STEPS, Flatten(SHAPE)]]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_log_det_is_autograds_and_the_inverse_goes_back(step: Bijection) -> None:
    levels = float(getattr(step, "levels", 1.0))
    x = levels * torch.rand(5, *SHAPE, dtype=torch.float64)
    z, log_det = step(x)
    assert tuple(z.shape[1:]) == step.latent_shape
    torch.testing.assert_close(log_det, autograd_log_det(step, x))
    torch.testing.assert_close(step.inverse(z), x)
    assert not step.indexable


def test_every_grey_level_stays_apart_in_single_precision() -> None:
    """Also the darkest and the brightest, where the logit with a small λ is steep."""
    for levels, lam in ((256, 1e-6), (256, 0.05), (17, 1e-6)):
        step = Logit((1, 1, 1), levels, lam)
        x = dequantize(torch.arange(levels, dtype=torch.uint8).repeat(50).reshape(-1, 1, 1, 1))
        z, log_det = step(x)
        assert z.isfinite().all() and log_det.isfinite().all()
        torch.testing.assert_close(step.inverse(z), x, rtol=0, atol=1e-3)
    edges = torch.tensor([0.0, 256.0]).reshape(2, 1, 1, 1)
    assert Logit((1, 1, 1), 256, 1e-6)(edges)[0].isfinite().all()


@pytest.mark.parametrize("first", [Logit((1, 1, 1), 4, 0.05), Centre((1, 1, 1), 4)], ids=["logit", "centre"])
def test_the_mean_log_density_bounds_the_log_probability(first: Bijection) -> None:
    """P(n) = Φ(z(n + 1)) − Φ(z(n)) for a normal prior; their sum is at most 1."""
    affine = ElementwiseAffine((1, 1, 1))
    with torch.no_grad():
        affine.log_scale.fill_(0.7)
        affine.shift.fill_(-0.4)
    model = Model([Step(first), Step(affine)]).double()
    edges = torch.arange(5, dtype=torch.float64).reshape(-1, 1, 1, 1)
    with torch.no_grad():
        z = affine(first(edges)[0])[0].flatten()
        probability = torch.special.ndtr(z).diff()
        fine = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
        log_p = model.log_prob((edges[:4] + fine.reshape(1, 1, 1, -1)).reshape(-1, 1, 1, 1)).reshape(4, -1)
    torch.testing.assert_close(log_p.exp().mean(1), probability, rtol=1e-5, atol=0)
    assert (log_p.mean(1) <= probability.log() + 1e-9).all()
    assert 0.2 < probability.sum() <= 1
    assert math.isclose(float(first.levels), 4)  # type: ignore[arg-type]
