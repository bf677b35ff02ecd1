"""tanh by way of a sigmoid: a few rounding errors from the true one, with its derivatives."""

from __future__ import annotations

import pytest
import torch

from cifrun.nets.mlp import Tanh, tanh

X = torch.cat([torch.linspace(-12, 12, 100_001), torch.tensor([0.0, 1e-6, -1e-6, 100.0, -100.0, float("inf")])])


@pytest.mark.parametrize("grad", [False, True])
def test_tanh_is_off_by_rounding_errors(grad: bool) -> None:
    x = X.clone().requires_grad_(grad)
    assert (tanh(x).double() - torch.tanh(X.double())).abs().max() < 2e-7
    assert torch.equal(tanh(x).detach(), Tanh()(X))
    assert tanh(torch.tensor(float("nan"))).isnan()


def test_its_derivatives_are_those_of_tanh() -> None:
    found, expected = [], []
    for function, x, results in ((tanh, X.clone(), found), (torch.tanh, X.double(), expected)):
        x.requires_grad_()
        (first,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
        results += [first.detach().double(), torch.autograd.grad(first.sum(), x)[0].double()]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_double_precision_is_that_of_torch() -> None:
    x = X.double()
    assert torch.equal(tanh(x), torch.tanh(x))
