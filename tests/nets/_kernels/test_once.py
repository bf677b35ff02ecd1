"""A second derivative that can't be had is an error, and not a number."""

from __future__ import annotations

import pytest
import torch

from cifrun.bijections.residual import ResidualBlock
from cifrun.nets.lipschitz.networks import LipschitzMLP


@pytest.mark.parametrize(("kind", "training"), [("exact", True), ("unbiased", True), ("unbiased", False)])
def test_a_second_derivative_is_refused(kind: str, training: bool) -> None:
    torch.manual_seed(0)
    block = ResidualBlock((3,), LipschitzMLP(3, [8, 8], 0.9), kind).train(training)
    block.exact_log_det = block.exact_in_training  # in evaluation as of many dimensions
    x = torch.randn(4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(block(x)[1].sum(), x, create_graph=True)
    assert gradient.isfinite().all()  # the first is fine
    with pytest.raises(RuntimeError, match="can't be differentiated again"):
        torch.autograd.grad(gradient.sum(), x)


def test_in_evaluation_an_exact_one_has_it() -> None:
    torch.manual_seed(0)
    block = ResidualBlock((2,), LipschitzMLP(2, [8, 8], 0.9), "exact").double().eval()
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: block(x)[1], x)
