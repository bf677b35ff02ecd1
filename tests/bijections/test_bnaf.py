"""Block neural autoregressive maps: triangular and increasing by their own weights, and onto by their gate."""

from __future__ import annotations

import pytest
import torch

from cifrun.bijections.bnaf import BlockAutoregressive, BlockLinear
from tests.helpers import randomise


def bnaf(features: int, width: int = 4, layers: int = 2, scale: float = 0.3) -> BlockAutoregressive:
    torch.manual_seed(0)
    bijection = BlockAutoregressive(features, width, layers).double().eval()
    randomise(bijection, scale)
    return bijection


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_the_jacobian_is_triangular_and_its_diagonal_what_is_carried_forward(layers: int) -> None:
    f = bnaf(4, layers=layers, scale=1.0)
    x = torch.randn(4, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: f(v[None])[0][0], x)
    assert torch.equal(jacobian, jacobian.tril()) and (jacobian.diagonal() > 0).all()
    assert (jacobian.tril(-1) != 0).sum() == 6  # each on all before it
    torch.testing.assert_close(f._slopes(x[None])[1][0].exp(), jacobian.diagonal())


def test_blocks_are_zero_above_positive_on_and_free_below_the_diagonal() -> None:
    torch.manual_seed(0)
    layer = BlockLinear(3, 2, 5, gain=1.0, bias=1.0).double()
    weight = layer.derived()
    blocks = weight.unflatten(0, (3, 5)).unflatten(2, (3, 2)).transpose(1, 2)  # (row, column, unit, unit)
    for i in range(3):
        for j in range(3):
            block = blocks[i, j]
            assert not block.any() if j > i else (block > 0).all() if j == i else bool((block < 0).any())
    torch.testing.assert_close(weight.norm(dim=1), layer.log_length.exp())


def test_slopes_that_single_precision_rounds_to_zero_keep_their_logarithms() -> None:
    """1 − tanh² far out, with a gate whose own share of the slope is as small."""
    f = bnaf(2)
    with torch.no_grad():
        f.gate.fill_(200)
        x = torch.tensor([[30.0, -30.0], [-60.0, 100.0]], dtype=torch.float64)
        _, exact = f._slopes(x)
        _, found = f.float()._slopes(x.float())
    assert exact.max() < -20
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-4)


def test_far_out_the_map_is_a_straight_line_by_its_gate() -> None:
    """z = g y + (1 − g) x with a bounded y: so it has a value everywhere, and an inverse."""
    f = bnaf(3)
    share = 1 - f.gate.sigmoid()
    with torch.no_grad():
        for size in (1e3, 1e6):
            x = torch.full((1, 3), size, dtype=torch.float64)
            torch.testing.assert_close(f(x)[0] / x, share.expand(1, 3), rtol=0, atol=50 / size)
            torch.testing.assert_close(f(x)[1], 3 * share.log()[None], rtol=0, atol=1e-9)
        z = torch.tensor([[-1e6, 1e5, 0.0], [1e3, -1e3, 2e6]], dtype=torch.float64)
        torch.testing.assert_close(f(f.inverse(z))[0], z)
    assert 0 <= f.inverse_residual < 1e-9


def test_slopes_are_of_the_order_of_one_at_first() -> None:
    """Standard normal data keep their spread, whatever the width and the depth."""
    torch.manual_seed(0)
    x = torch.randn(500, 2)
    for width, layers in ((8, 1), (50, 2), (50, 4)):
        _, log_det = BlockAutoregressive(2, width, layers)(x)
        assert abs(log_det.mean().item()) / 2 < 1


def test_a_description_says_how_large_it_is() -> None:
    assert BlockAutoregressive(3, 7, 2).describe() == "BlockAutoregressive 2 layers of 7 a coordinate"
