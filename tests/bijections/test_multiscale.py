"""Several scales in one event: what is moved, what is left alone, and what an index sees."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cifrun.bijections.linear import InvertibleConv
from cifrun.bijections.multiscale import Partial, Squeeze
from cifrun.cif.actions import AffineAction
from cifrun.cif.index import Index
from cifrun.errors import ConfigError
from cifrun.flows.multiscale import MultiScale


def images(*shape: int) -> Tensor:
    return torch.randn(5, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_squeeze_brings_neighbours_together() -> None:
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    z, log_det = Squeeze((2, 4, 4))(x)
    assert z.shape == (1, 8, 2, 2) and log_det.tolist() == [0]
    assert z[0, :, 0, 0].tolist() == [0, 1, 4, 5, 16, 17, 20, 21]  # the 2×2 corner of each channel
    torch.testing.assert_close(Squeeze((2, 4, 4)).inverse(z), x, rtol=0, atol=0)


def test_squeeze_refuses_odd_sides() -> None:
    with pytest.raises(ValueError, match="can't be squeezed"):
        Squeeze((1, 4, 3))


def test_a_partial_map_leaves_the_rest_alone() -> None:
    step = Partial(InvertibleConv((2, 4, 4)), 6).double()
    x = images(6, 4, 4)
    z, log_det = step(x)
    inner, inner_log_det = step.bijection(x[:, :2])
    torch.testing.assert_close(z, torch.cat([inner, x[:, 2:]], 1))
    torch.testing.assert_close(log_det, inner_log_det)
    torch.testing.assert_close(step.inverse(z), x)
    assert step.active_shape == (2, 4, 4) and step.shape == (6, 4, 4) and not step.indexable


def test_an_index_acts_on_the_active_part() -> None:
    index = Index((2, 4, 4), (2, 4, 4), AffineAction(), dim=3, st=[4], p=[4], q=[4]).double()
    with torch.no_grad():
        for parameter in index.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    z, u = images(6, 4, 4), images(3, 4, 4)
    moved, log_det = index(z, u)
    assert index.u_shape == (3, 4, 4) and index.q(z, z).mean.shape == (5, 3, 4, 4)
    torch.testing.assert_close(moved[:, 2:], z[:, 2:], rtol=0, atol=0)
    assert (moved[:, :2] != z[:, :2]).all()
    torch.testing.assert_close(index.inverse(moved, u), z)
    jacobian = torch.autograd.functional.jacobian(lambda row: index(row[None], u[:1])[0].flatten(), z[0])
    torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian.reshape(96, 96))[1])
    # What lies beyond it is of no influence.
    other = torch.cat([z[:, :2], 7 + z[:, 2:]], 1)
    torch.testing.assert_close(index.p(other).mean, index.p(z).mean, rtol=0, atol=0)


def test_factoring_out_keeps_the_event_whole() -> None:
    stack = MultiScale((1, 8, 8), 3, "f")
    for scale in range(3):
        stack.add(InvertibleConv)
        if scale < 2:
            stack.squeeze()
            stack.factor_out()
    shapes = [(step.active_shape, step.latent_shape) for step in stack.steps]
    assert shapes == [
        ((1, 8, 8), (1, 8, 8)),
        ((4, 4, 4), (4, 4, 4)),
        ((2, 4, 4), (4, 4, 4)),
        ((16, 2, 2), (16, 2, 2)),
        ((4, 2, 2), (16, 2, 2)),
    ]


@pytest.mark.parametrize(("shape", "scales", "possible"), [((1, 28, 28), 4, 3), ((3, 8, 6), 3, 2), ((1, 5, 4), 2, 1)])
def test_scales_that_do_not_fit(shape: tuple[int, ...], scales: int, possible: int) -> None:
    with pytest.raises(ConfigError, match=rf"which is flow\.scales={possible}$"):
        MultiScale(shape, scales, "f")
    MultiScale(shape, possible, "f")
