"""Flows of several scales: what is factored out stays in the event, and scales that do not fit are refused."""

from __future__ import annotations

import pytest

from cifrun.bijections.linear import InvertibleConv
from cifrun.errors import ConfigError
from cifrun.flows.multiscale import MultiScale


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
