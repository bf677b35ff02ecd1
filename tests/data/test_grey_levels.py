"""Grey levels become continuous by noise, and numbers grey levels."""

from __future__ import annotations

import math

import pytest
import torch

from cifrun.data.grey_levels import dequantize, quantize


def test_noise_is_uniform_fresh_and_below_the_next_level() -> None:
    n = torch.arange(256, dtype=torch.uint8).repeat(2000).reshape(-1, 1, 1, 1)
    torch.manual_seed(0)
    x, y = dequantize(n), dequantize(n)
    assert x.dtype == torch.float32 and not torch.equal(x, y)
    assert torch.equal(x.floor().to(torch.uint8), n) and torch.equal(quantize(y, 256), n)
    noise = (x.double() - n).flatten()
    # 512 000 draws: mean and variance are within 5 standard errors but once in 10⁶.
    assert noise.mean().item() == pytest.approx(1 / 2, abs=5 * math.sqrt(1 / 12 / len(noise)))
    assert noise.var().item() == pytest.approx(1 / 12, abs=5 * math.sqrt(1 / 180 / len(noise)))
    assert torch.equal(quantize(torch.tensor([-3.0, 0.2, 16.9, 17.0, math.nan, math.inf]), 17).int(),
                       torch.tensor([0, 0, 16, 16, 0, 16], dtype=torch.int32))  # fmt: skip


def test_what_is_no_grey_level_gets_no_noise() -> None:
    before = torch.get_rng_state()
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    assert dequantize(x) is x
    assert torch.equal(dequantize(torch.tensor([[True], [False]])), torch.tensor([[1.0], [0.0]]))
    assert torch.equal(torch.get_rng_state(), before)
