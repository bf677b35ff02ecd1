"""Root searches: they find the root wherever it is, or say that they did not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cifrun.bijections.root_finding import monotone_root
from cifrun.errors import ConvergenceError


def cubic(x: Tensor) -> tuple[Tensor, Tensor]:
    return x**3 + 1e-3 * x, 3 * x**2 + 1e-3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), max_size=8))
def test_roots_are_found_wherever_they_are(targets: list[float]) -> None:
    target = torch.tensor(targets, dtype=torch.float64)
    x, residual = monotone_root(cubic, target)
    assert x.shape == target.shape
    torch.testing.assert_close(cubic(x)[0], target, rtol=1e-10, atol=1e-10)
    assert residual < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kinks_and_plateaus_do_not_trap_newton(dtype: torch.dtype) -> None:
    def f(x: Tensor) -> tuple[Tensor, Tensor]:  # nearly flat on the left, steep at 3, flat again
        s = torch.sigmoid(40 * (x - 3))
        return s + 1e-3 * x, 40 * s * (1 - s) + 1e-3

    target = torch.tensor([-5.0, -0.001, 0.2, 0.5, 1.0, 7.0], dtype=dtype)
    x, residual = monotone_root(f, target)
    assert residual < 100 * torch.finfo(dtype).eps
    assert x.dtype == dtype


def test_a_first_bracket_may_be_given() -> None:
    target = torch.tensor([0.5, 8.0])
    x = monotone_root(cubic, target, lower=torch.tensor([0.0, 1.9]), upper=3.0).x
    torch.testing.assert_close(cubic(x)[0], target)


def test_a_value_that_is_not_taken_is_an_error() -> None:
    with pytest.raises(ConvergenceError, match=r"atan has no value here.* 5"):
        monotone_root(lambda x: (x.atan(), 1 / (1 + x * x)), torch.tensor([0.0, 5.0]), name="atan")


def test_too_few_iterations_are_an_error() -> None:
    with pytest.raises(ConvergenceError, match="did not converge"):
        monotone_root(cubic, torch.tensor([0.3]), max_iterations=2)


def test_not_a_number_is_an_error() -> None:
    with pytest.raises(ConvergenceError):
        monotone_root(cubic, torch.tensor([float("nan")]))


def test_a_root_has_the_derivatives_of_the_implicit_function() -> None:
    """x³ + a x = t: ∂x/∂t = 1/(3x² + a), ∂x/∂a = −x/(3x² + a)."""
    t = torch.tensor([-3.0, 0.5, 40.0], dtype=torch.float64, requires_grad=True)
    a = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    x = monotone_root(lambda v: (v**3 + a * v, 3 * v**2 + a), t).x
    slope = (3 * x**2 + a).detach()
    torch.testing.assert_close(torch.autograd.grad(x.sum(), t, retain_graph=True)[0], 1 / slope)
    torch.testing.assert_close(torch.autograd.grad(x.sum(), a)[0], -(x.detach() / slope).sum())
