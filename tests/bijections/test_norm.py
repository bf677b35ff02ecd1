"""Activation norm and batch norm: what they take from a batch, and what they leave."""

from __future__ import annotations

import copy

import pytest
import torch

from cifrun.bijections.norm import ActNorm, BatchNorm


@pytest.mark.parametrize("shape", [(3,), (2, 4, 4)])
def test_actnorm_standardises_its_first_training_batch(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm, x = ActNorm(shape), 5 * torch.randn(200, *shape) + 3
    assert torch.equal(norm.eval()(x)[0], x)  # evaluation sets nothing
    z = norm.train()(x)[0]
    assert abs(z.mean()) < 1e-5
    assert abs(z.std() - 1) < 0.02
    weights = copy.deepcopy(norm.state_dict())
    norm(x + 10)
    assert all(torch.equal(weights[k], v) for k, v in norm.state_dict().items())
    resumed = ActNorm(shape)
    resumed.load_state_dict(weights)
    torch.testing.assert_close(resumed(x)[0], z)


def test_actnorm_leaves_the_scale_of_a_constant_coordinate() -> None:
    x = torch.stack([torch.randn(50), torch.full((50,), 7.0)], 1)
    z, log_det = ActNorm((2,))(x)
    assert z.isfinite().all()
    assert log_det.isfinite().all()
    assert z[:, 1].abs().max() < 1e-5


def test_batchnorm_uses_the_batch_in_training_and_averages_in_evaluation() -> None:
    torch.manual_seed(0)
    norm = BatchNorm((2,), momentum=0.2)
    x = torch.randn(500, 2) * torch.tensor([3.0, 0.5]) + torch.tensor([1.0, -2.0])
    z, log_det = norm(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var(0, unbiased=False), torch.ones(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(log_det[0], -0.5 * (x.var(0, unbiased=False) + norm.eps).log().sum())
    for _ in range(60):
        norm(x)
    torch.testing.assert_close(norm.eval()(x)[0], z, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(norm.inverse(norm(x)[0]), x, atol=1e-5, rtol=1e-5)
