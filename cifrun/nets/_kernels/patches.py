"""The 3×3 pixels around each pixel of images, zeros beyond the edge, as rows; and the transpose, which adds rows up.

PyTorch's `unfold` and `fold` do the same: on a CPU in about twice the time, and the first on a GPU image by image.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def gather(x: Tensor) -> Tensor:
    """(batch, C, H, W) → (batch · H · W, 9 · C), in the order row, column, channel."""
    batch, channels, height, width = x.shape
    padded = F.pad(x.permute(0, 2, 3, 1).contiguous(), (0, 0, 1, 1, 1, 1))
    across, down = channels, (width + 2) * channels
    strides = ((height + 2) * down, down, across, down, across, 1)
    view = padded.as_strided((batch, height, width, 3, 3, channels), strides)
    return view.reshape(batch * height * width, 9 * channels)


def scatter(rows: Tensor, height: int, width: int) -> Tensor:
    """(batch · H · W, 9 · C) → (batch, C, H, W): ⟨rows, gather(x)⟩ = ⟨scatter(rows), x⟩ for every x."""
    parts = rows.unflatten(1, (3, 3, -1)).unflatten(0, (-1, height, width))
    if not rows.is_cpu:
        columns = parts.permute(0, 5, 3, 4, 1, 2).flatten(1, 3).flatten(2)
        return F.fold(columns, (height, width), 3, padding=1)
    total = rows.new_zeros(len(parts), height + 2, width + 2, parts.shape[-1])
    for i in range(3):
        for j in range(3):
            total[:, i : i + height, j : j + width] += parts[:, :, :, i, j]
    return total[:, 1:-1, 1:-1].permute(0, 3, 1, 2).contiguous()
