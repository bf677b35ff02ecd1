"""Several scales in one event: what is moved, and what is left alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cifrun.bijections.linear import InvertibleConv
from cifrun.bijections.multiscale import Partial, Squeeze


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
