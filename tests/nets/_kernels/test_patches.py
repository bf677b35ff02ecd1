"""Images as rows of 3×3 pixels, and back: what PyTorch's unfold and fold give, on every kind of memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cifrun.nets._kernels.patches import gather, scatter

SHAPES = [(2, 1, 5, 4), (3, 4, 3, 3), (1, 3, 1, 1), (2, 2, 1, 6), (0, 3, 4, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_rows_are_the_pixels_around(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=layout)
    columns = F.unfold(x, 3, padding=1).unflatten(1, (-1, 3, 3))  # (batch, C, 3, 3, pixels)
    torch.testing.assert_close(gather(x), columns.permute(0, 4, 2, 3, 1).reshape(-1, 9 * shape[1]))


@pytest.mark.parametrize("shape", SHAPES)
def test_back_is_the_transpose(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    rows = torch.randn_like(gather(x))
    back = scatter(rows, *shape[2:])
    assert back.shape == x.shape and back.is_contiguous()
    torch.testing.assert_close((rows * gather(x)).sum(), (back * x).sum())
    columns = rows.unflatten(1, (3, 3, -1)).unflatten(0, (shape[0], shape[2] * shape[3]))
    folded = F.fold(columns.permute(0, 4, 2, 3, 1).flatten(1, 3), shape[2:], 3, padding=1)
    torch.testing.assert_close(back, folded)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", SHAPES)
def test_a_gpu_does_the_same(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    rows = gather(x)
    torch.testing.assert_close(gather(x.cuda()).cpu(), rows)
    torch.testing.assert_close(scatter(rows.cuda(), *shape[2:]).cpu(), scatter(rows, *shape[2:]))
