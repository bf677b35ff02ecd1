"""IWAE_m is a lower bound whatever m, also where log-determinants are estimated.

A CIF as it is made has an index that does nothing yet: each of its weights is p(x), which its steps alone give too.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from cifrun.bijections import residual
from cifrun.build import build_model
from cifrun.cif.importance import pieces
from cifrun.cif.model import Model
from cifrun.cif.step import Step
from cifrun.cli.hydra_app import configure
from cifrun.evaluation.evaluate import evaluate_split

FLAT = ["flow=resflow", "flow.depth=3", "flow.hidden=[16, 16]", "flow.logdet=unbiased"]
IMAGES = ["flow=resflow_image", "dataset=digits", "flow.depth=2", "flow.scales=1", "flow.dense=1", "flow.hidden=[8]"]
IMAGES += ["flow.norm=none"]


def fresh(shape: Sequence[int], overrides: Sequence[str], steep: float = 1.0) -> tuple[Model, Model, Tensor]:
    """A CIF, a plain flow of the same steps, and data. `steep` multiplies the last layer of each block's network."""
    torch.manual_seed(0)
    model = build_model(configure([*overrides, "cif=true"]), shape, None).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, residual.ResidualBlock):
                module.net.linears[-1].weight.mul_(steep)
    plain = Model([Step(step.bijection) for step in model.steps]).eval()
    return model, plain, torch.randn(6, *shape)


@pytest.mark.parametrize("m", [1, 10, 1000])
@pytest.mark.parametrize("shape", [(2,), (10,), (64,), (1, 8, 8)], ids=str)
def test_equal_weights_give_what_each_of_them_is(shape: tuple[int, ...], m: int) -> None:
    model, plain, x = fresh(shape, FLAT if len(shape) == 1 else IMAGES, steep=50)
    with torch.inference_mode():
        exact = plain.log_prob(x)
        estimate = model.estimate(x, m, seed=1)
    assert plain.exact and not model.noisy
    torch.testing.assert_close(estimate.log_likelihood, exact, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(estimate.ess, torch.full_like(exact, m), rtol=1e-3, atol=0)


@pytest.mark.parametrize("shape", [(10,), (1, 8, 8)], ids=str)
def test_so_they_do_where_log_determinants_are_estimated(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean over 200 seeds (of the image flow, 50) within 4 standard errors for three m: one false alarm in 1 000."""
    overrides = FLAT if len(shape) == 1 else IMAGES
    exact = fresh(shape, overrides, steep=50)[1].log_prob(fresh(shape, overrides, steep=50)[2]).mean()
    monkeypatch.setattr(residual, "EXACT_IN_EVALUATION", 0)
    monkeypatch.setattr(residual, "EXACT_TERMS", (2, 2))
    model, _, x = fresh(shape, overrides, steep=50)
    config = configure([*overrides, "cif=true"])
    assert model.noisy and not model.exact
    for m in (1, 10, 100):
        found = []
        for seed in range(200 if len(shape) == 1 else 50):
            config.eval.seed = seed
            _, result = evaluate_split(model, x, config, m)
            found.append(result["log_likelihood"])
            assert result["ess"] == pytest.approx(m, rel=1e-3)
        values = torch.tensor(found, dtype=torch.float64)
        error = (values.std() / len(values) ** 0.5).item()
        assert error > 1e-4  # there is noise
        assert abs(values.mean() - exact) < 4 * error


def test_a_model_in_training_has_two_estimates_too() -> None:
    """Evaluation is exact here, and training is not: log p(x) of a model that is left in training is a bound too."""
    model, _, x = fresh((10,), FLAT, steep=50)
    assert not model.noisy and model.train().noisy
    with torch.no_grad():
        (weights,) = model.log_weights(lambda rows: x[rows], pieces(len(x), 5, len(x), 100))
    assert weights.again is not None and not torch.equal(weights.again, weights.log_w)
    torch.testing.assert_close(weights.log_w, weights.log_w[:1].expand_as(weights.log_w), rtol=0, atol=1e-4)


def test_training_on_many_importance_samples_has_one_noise_a_datum() -> None:
    model, _, x = fresh((10,), FLAT, steep=50)
    model.train()
    log_w = model.log_w(x, 50)
    torch.testing.assert_close(log_w, log_w[:1].expand_as(log_w), rtol=0, atol=1e-4)
