"""Matrix products as fast as the processor takes them.

On a CPU, PyTorch has MKL multiply fp32 matrices, and oneDNN convolve images. On processors that are not Intel's, MKL
does without AVX-512, and on an AMD EPYC takes twice as long as oneDNN. There large products are done as what they are
as well, the convolution of an image of one row of pixels with kernels of one pixel, channels last:

    (x Wᵀ + b)_ij = Σ_k W_jk x_ik + b_j        i: pixel, k: channel of the image, j: channel of the result

Both are in fp32 throughout, and differ by rounding.
"""

from __future__ import annotations

import platform
from contextlib import suppress

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Linear", "by_convolution", "linear", "transposed_product"]


def _intel() -> bool:
    with suppress(OSError), open("/proc/cpuinfo") as lines:
        return "GenuineIntel" in lines.read(1000)
    return "Intel" in platform.processor()


#: Whether MKL leaves AVX-512 aside: on a processor that has it and is not Intel's.
ONEDNN = "AVX512" in torch.backends.cpu.get_cpu_capability() and torch.backends.mkldnn.is_available() and not _intel()
#: Multiplications below which a product is not worth what a convolution costs before it starts, 20 µs.
LARGE = 8_000_000
#: A side shorter than this leaves most of a vector register empty.
NARROW = 8


def by_convolution(x: Tensor, weight: Tensor) -> bool:
    """Whether x Wᵀ is done as a convolution: for x of (…, in), weight of (out, in)."""
    return (
        x.numel() * weight.shape[0] >= LARGE
        and ONEDNN
        and x.is_cpu
        and x.dtype == torch.float32
        and min(x.numel() // weight.shape[1], *weight.shape) >= NARROW
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b, as `torch.nn.functional.linear`: (…, in) → (…, out), for a weight of (out, in)."""
    if not by_convolution(x, weight):
        return F.linear(x, weight, bias)
    rows = x.flatten(0, -2) if x.dim() > 2 else x
    y = F.conv2d(_image(rows), weight[:, :, None, None], bias).permute(0, 2, 3, 1).flatten(0, 2)
    return y.unflatten(0, x.shape[:-1]) if x.dim() > 2 else y


def transposed_product(grad: Tensor, x: Tensor) -> Tensor:
    """gradᵀ x, (out, in), for (batch, out) and (batch, in): what `linear` has for its gradient by the weight."""
    if not by_convolution(x, grad.T):
        return grad.T @ x
    weight = grad.new_empty(1).expand(grad.shape[1], x.shape[1], 1, 1)  # only its shape is looked at
    one, zero = (1, 1), (0, 0)
    gradients = torch.ops.aten.convolution_backward(
        _image(grad), _image(x), weight, None, one, zero, one, False, zero, 1, (False, True, False)
    )
    return gradients[1].flatten(1)


class Linear(nn.Linear):
    """`torch.nn.Linear` by way of `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def _image(x: Tensor) -> Tensor:
    """Rows as the pixels of one image, (1, columns, 1, rows)."""
    return x.contiguous()[None, None].permute(0, 3, 1, 2)
