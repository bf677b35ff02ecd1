"""Weights under their bounds, as one node: beside autograd through the formulas."""

from __future__ import annotations

import torch
from torch import Tensor

from cifrun.nets._kernels.scaled import plain, scaled


def inputs() -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Weights and slopes whose norms are above, below and far above 0.9, and ratios."""
    torch.manual_seed(0)
    weights = [
        c * torch.randn(shape, dtype=torch.float64) for c, shape in [(3, (4, 3)), (0.01, (4, 4)), (9, (2, 4, 3, 3))]
    ]
    slopes = [weight.sign() * torch.rand_like(weight) for weight in weights]
    return [w.requires_grad_() for w in weights], slopes, torch.tensor([0.5, 2.0, 1.5]).double().requires_grad_()


def test_values_and_gradients_are_those_of_the_formulas() -> None:
    weights, slopes, ratios = inputs()
    leaves = [ratios, *weights]
    found, expected = scaled(weights, slopes, 0.9, ratios), plain(weights, slopes, 0.9, ratios)
    torch.testing.assert_close(found, expected)
    probes = [torch.randn_like(t) for t in found]
    for a, b in zip(
        torch.autograd.grad(found, leaves, probes), torch.autograd.grad(expected, leaves, probes), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_a_gradient_can_be_differentiated_in_turn() -> None:
    weights, slopes, ratios = inputs()
    assert torch.autograd.gradgradcheck(lambda r, *w: tuple(scaled(w, slopes, 0.9, r)), (ratios, *weights))


def test_what_needs_no_gradient_gets_none() -> None:
    weights, slopes, ratios = inputs()
    found = scaled([w.detach() for w in weights], slopes, 0.9, ratios)
    torch.autograd.grad(sum(t.sum() for t in found), ratios)
    assert not any(t.requires_grad for t in scaled([w.detach() for w in weights], slopes, 0.9, ratios.detach()))
