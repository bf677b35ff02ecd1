"""Grey levels of images: the noise that makes integers continuous, and the way back.

For a density p, E log p(n + ε) ≤ log P(n) with P(n) = ∫_{[0,1)^D} p(n + ε) dε: so the mean log-density in nats is a
lower bound of the log-probability of the integers, and −log p / (D log 2) bits a dimension need no other constant.

Reference: Theis, van den Oord, Bethge, "A note on the evaluation of generative models", ICLR 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..compute.rng import for_rows

__all__ = ["dequantize", "quantize"]


def dequantize(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """What a model is given for stored events x: grey levels n become n + ε with ε ~ U[0, 1)^D, float32.

    Arguments:
        x: (N, *shape). If it is not uint8, it gets no noise, and no random number is drawn.
        generator: On the CPU; without one, the global generator of x's device draws.
    """
    if x.dtype != torch.uint8:
        return x if x.is_floating_point() else x.float()
    device = x.device if generator is None else "cpu"
    noise = for_rows(lambda size: torch.rand(size, generator=generator, device=device), x.shape)
    # Ends 2⁻¹⁶ before 1, or rounding to float32 would make n + 1 of some n + ε.
    return x + noise.mul_(1 - 2**-16).to(x.device)


def quantize(x: Tensor, levels: int) -> Tensor:
    """The grey levels of a model's samples x: ⌊x⌋, within 0 … levels − 1, uint8; the inverse of `dequantize`."""
    return x.nan_to_num(0.0).floor().clamp(0, levels - 1).to(torch.uint8)
