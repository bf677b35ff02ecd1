"""Standardising and whitening: affine maps by fixed numbers, whose mean stays in double precision."""

from __future__ import annotations

import math

import pytest
import torch

from cifrun.bijections.base import Identity
from cifrun.bijections.preprocess.standardize import Centred, Standardize, Whiten, precision_of
from tests.helpers import autograd_log_det


def whiten(dim: int) -> Whiten:
    generator = torch.Generator().manual_seed(dim)
    factor = torch.randn(dim, dim, generator=generator).tril(-1) + torch.rand(dim, generator=generator).add(0.1).diag()
    return Whiten((dim,), torch.randn(dim, generator=generator), factor).double()


def standardize(*shape: int) -> Standardize:
    generator = torch.Generator().manual_seed(len(shape))
    mean, std = torch.randn(shape[0], generator=generator), torch.rand(shape[0], generator=generator) + 0.1
    return Standardize(shape, mean, std).double()


EXAMPLES = [whiten(1), whiten(2), whiten(7), standardize(1), standardize(5), standardize(3, 2, 4)]


@pytest.mark.parametrize("step", EXAMPLES, ids=lambda step: f"{type(step).__name__}-{step.shape}")
def test_inverse_and_log_det(step: Centred) -> None:
    x = torch.randn(20, *step.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z, log_det = step(x)
    torch.testing.assert_close(step.inverse(z), x)
    torch.testing.assert_close(log_det, autograd_log_det(step, x))
    assert not list(step.parameters()) and not step.indexable


def test_a_channel_of_an_image_has_one_mean_and_one_deviation() -> None:
    step = Standardize((2, 3, 3), torch.tensor([1.0, -4.0]), torch.tensor([2.0, 0.25]))
    x = torch.randn(5, 2, 3, 3)
    z, log_det = step(x)
    torch.testing.assert_close(z[:, 0], (x[:, 0] - 1) / 2)
    torch.testing.assert_close(z[:, 1], (x[:, 1] + 4) / 0.25)
    assert log_det.tolist() == pytest.approx([-9 * (math.log(2) + math.log(0.25))] * 5)


def test_whitened_data_have_the_identity_as_covariance() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 3, dtype=torch.float64) @ torch.randn(3, 3, dtype=torch.float64) + 5
    step = Whiten((3,), x.mean(0), torch.linalg.cholesky(x.T.cov(correction=0))).double()
    z, _ = step(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(3, dtype=torch.float64))
    covariance = z.T.cov(correction=0)  # as precise as the factor, which is of single precision
    torch.testing.assert_close(covariance, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-5)


def test_a_step_without_numbers_is_the_identity() -> None:
    for step in (Standardize((3,)), Whiten((3,))):
        x = torch.randn(4, 3)
        z, log_det = step(x)
        assert torch.equal(z, x) and not log_det.any()


# --- precision --------------------------------------------------------------------------------------------------------

FAR = torch.tensor([1e8, 3.0], dtype=torch.float64)


def far(kind: type[Centred]) -> Centred:
    """A step of data of which the first coordinate is 10⁸ and varies by 1."""
    return kind((2,), FAR, torch.ones(2) if kind is Standardize else torch.eye(2))  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [Standardize, Whiten])
def test_numbers_far_from_zero_are_centred_before_they_are_rounded(kind: type[Centred]) -> None:
    step = far(kind)
    x = FAR + torch.tensor([[0.25, -1.0], [-0.5, 2.0]], dtype=torch.float64)
    z, _ = step(x)
    assert z.dtype == torch.float32 and z.tolist() == [[0.25, -1], [-0.5, 2]]
    back = step.inverse(z)
    assert back.dtype == torch.float64 and torch.equal(back, x)


@pytest.mark.parametrize("kind", [Standardize, Whiten])
def test_the_mean_stays_in_double_precision(kind: type[Centred]) -> None:
    step = far(kind).float()
    assert step.mean.dtype == torch.float64 and torch.equal(step.mean, FAR)
    assert {b.dtype for name, b in step.named_buffers() if name != "mean"} == {torch.float32}
    blank = kind((2,))
    blank.load_state_dict(step.state_dict())
    assert torch.equal(blank.mean, FAR)


def test_numbers_near_zero_stay_in_single_precision() -> None:
    step = Standardize((1,), torch.tensor([100.0]), torch.tensor([1.0]))
    assert step.inverse(torch.randn(3, 1)).dtype == torch.float32
    assert precision_of(step, torch.float32) == torch.float32


def test_the_precision_of_a_model_is_that_which_keeps_a_thousand_numbers_a_deviation() -> None:
    """Up to 2²³/1000 times what the data vary by, single precision does."""
    edge = 2**23 / 1000
    for mean, precision in ((0.9 * edge, torch.float32), (1.1 * edge, torch.float64), (-1.1 * edge, torch.float64)):
        step = Standardize((2,), torch.tensor([0.0, mean], dtype=torch.float64), torch.ones(2))
        assert precision_of(step, torch.float32) == precision
        assert precision_of(step, torch.float64) == torch.float64
    assert precision_of(Identity((2,)), torch.float32) == torch.float32
