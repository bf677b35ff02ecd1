"""Muon: its updates against a singular value decomposition, against torch's own, and where it leaves weights alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from cifrun.optimizers.muon import MOMENTUM, OTHERS, Muon, orthogonalised


@pytest.mark.parametrize("shape", [(3, 20, 20), (2, 30, 7), (2, 7, 30), (4, 10, 1), (1, 1, 1)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    found = u.mT @ orthogonalised(x) @ v.mT  # diagonal, if the vectors are the same
    values = found.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(found, torch.diag_embed(values), atol=1e-9, rtol=0)
    large = s > 0.003 * s.square().sum(1, keepdim=True).sqrt()
    assert large.any() and (values[large] > 0.68).all() and (values < 1.21).all()


def test_weights_of_no_size_are_no_trouble() -> None:
    """As of the network of a first coordinate, which looks at nothing."""
    weights = [nn.Parameter(torch.ones(3, 0)), nn.Parameter(torch.ones(0, 3)), nn.Parameter(torch.ones(2, 2))]
    for p in weights:
        p.grad = torch.ones_like(p)
    Muon(weights, 0.1).step()
    assert not torch.equal(weights[2], torch.ones(2, 2))


def test_a_gradient_of_zero_moves_nothing() -> None:
    assert torch.equal(orthogonalised(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has had Muon since 2.9")
def test_matrices_move_as_with_torch() -> None:
    """To the accuracy of bfloat16, in which torch makes them orthogonal."""
    torch.manual_seed(0)
    mine = [nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(3, 8)), nn.Parameter(torch.randn(6, 4))]
    theirs = copy.deepcopy(mine)
    ours, other = Muon(mine, 0.05, 0.1), torch.optim.Muon(theirs, lr=0.05, weight_decay=0.1, momentum=MOMENTUM)
    for _ in range(5):
        for a, b in zip(mine, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        ours.step()
        other.step()
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=5 * 0.05 * 0.02, rtol=0)


def test_what_is_no_matrix_moves_as_with_adam() -> None:
    torch.manual_seed(0)
    mine = [nn.Parameter(torch.randn(5)), nn.Parameter(torch.randn(())), nn.Parameter(torch.randn(2, 2))]
    theirs = copy.deepcopy(mine[:2])
    ours, adam = Muon(mine, 0.05), torch.optim.Adam(theirs, lr=OTHERS * 0.05)
    for _ in range(5):
        for a in mine:
            a.grad = torch.randn_like(a)
        for a, b in zip(mine[:2], theirs, strict=True):
            b.grad = a.grad.clone()  # type: ignore[union-attr]
        ours.step()
        adam.step()
    torch.testing.assert_close(mine[:2], theirs)


def test_a_kernel_moves_as_the_matrix_of_its_output_channels() -> None:
    torch.manual_seed(0)
    kernel, gradient = torch.randn(3, 2, 3, 3), torch.randn(3, 2, 3, 3)
    as_kernel, as_matrix = nn.Parameter(kernel.clone()), nn.Parameter(kernel.flatten(1).clone())
    as_kernel.grad, as_matrix.grad = gradient.clone(), gradient.flatten(1).clone()
    for weights in (as_kernel, as_matrix):
        Muon([weights], 0.1).step()
    torch.testing.assert_close(as_kernel.flatten(1), as_matrix)


def test_weights_without_a_gradient_stay() -> None:
    weights = [nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))]
    weights[1].grad = torch.ones(2, 2)
    Muon(weights, 0.1, 0.1).step()
    assert torch.equal(weights[0], torch.ones(2, 2)) and torch.equal(weights[2], torch.ones(2))
    assert not torch.equal(weights[1], torch.ones(2, 2))


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_an_update_that_is_found_to_be_bad_changes_nothing(decay: float) -> None:
    """As on a GPU, where nobody waits to see whether it is."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(2))]
    optimizer = Muon(weights, 0.1, decay)

    def step(bad: float, value: float) -> tuple[list[Tensor], Tensor]:
        for p in weights:
            p.grad = torch.full_like(p, value)
        optimizer.found_inf = torch.tensor(bad)  # type: ignore[attr-defined]
        optimizer.step()
        return [p.detach().clone() for p in weights], optimizer.state[weights[0]]["momentum"].clone()

    before, momentum = step(0.0, 1.0)
    same, kept = step(1.0, float("nan"))
    assert torch.equal(kept, momentum) and all(map(torch.equal, before, same))
    after, _ = step(0.0, 1.0)
    assert not any(map(torch.equal, before, after))


def test_a_layer_that_gets_no_gradient_any_longer_comes_to_rest() -> None:
    """Momentum decays to numbers whose squares are zero in single precision, and on to zero."""
    weight = torch.nn.Parameter(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))
    optimizer = Muon([weight], lr=0.03)
    weight.grad = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    optimizer.step()
    weight.grad = torch.zeros(6, 4)
    for _ in range(600):
        optimizer.step()
    before = weight.detach().clone()
    for _ in range(2400):
        optimizer.step()
    torch.testing.assert_close(weight.detach(), before, rtol=0, atol=1e-3)
