"""Normalisation between steps: activation norm, and batch norm with a correct evaluation mode.

Both bring each coordinate (each channel of an image) to mean 0 and variance 1 and then let it go elsewhere by learned
numbers. Activation norm looks at the data once; batch norm at every training batch, and uses running averages after.
Where a batch is gone through in several micro-batches, each of these is a batch here.

Sources: Kingma, Dhariwal, "Glow: generative flow with invertible 1×1 convolutions", NeurIPS 2018; Dinh,
Sohl-Dickstein, Bengio, "Density estimation using Real NVP", ICLR 2017, appendix E.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..compute.rng import sum_over_batch
from .linear import ElementwiseAffine

__all__ = ["ActNorm", "BatchNorm"]


class ActNorm(ElementwiseAffine):
    """z = x ⊙ exp(a) + b, where the first training batch sets a and b so that z has mean 0 and variance 1.

    A coordinate that does not vary in that batch is shifted and not scaled.
    """

    indexable = False
    compilable = False  # the first batch sets it up
    initialised: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(shape)
        self.register_buffer("initialised", torch.tensor(False))
        self._done = False  # spares reading the buffer from the device at every step

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and not self._done:
            if not self.initialised:
                self._initialise(x.detach())
            self._done = True
        return super()._forward(x)

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        mean, std = _mean(x), _variance(x).sqrt()
        varies = std > 1e-6 * mean.abs() + torch.finfo(x.dtype).tiny
        self.log_scale.copy_(torch.where(varies, -std.log(), torch.zeros_like(std)))
        self.shift.copy_(-mean * self.log_scale.exp())
        self.initialised.fill_(True)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._done = False


class BatchNorm(ElementwiseAffine):
    """z = (x − m) / √(v + ε) ⊙ exp(a) + b, with m and v of the batch in training, and running averages in evaluation.

    log|det ∂z/∂x| = Σ (a − ½ log(v + ε)) takes m and v as given: exact in evaluation, and in training as in Dinh et al.
    `inverse` always uses the running averages, so it inverts the evaluation mode.

    Arguments:
        shape: Shape of an event.
        momentum: Weight of the newest batch in the running averages.
        eps: ε.
    """

    indexable = False
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, shape: Sequence[int], momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__(shape)
        self.momentum = momentum
        self.eps = eps
        self.register_buffer("running_mean", torch.zeros_like(self.shift))
        self.register_buffer("running_var", torch.ones_like(self.shift))

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            mean, var = _mean(x), _variance(x)
            with torch.no_grad():
                self.running_mean.lerp_(mean.detach(), self.momentum)
                self.running_var.lerp_(var.detach(), self.momentum)
        else:
            mean, var = self.running_mean, self.running_var
        z, log_det = super()._forward((x - mean) * (var + self.eps).rsqrt())
        return z, log_det - 0.5 * (var + self.eps).log().sum() * self._area

    def _inverse(self, z: Tensor) -> Tensor:
        return super()._inverse(z) * (self.running_var + self.eps).sqrt() + self.running_mean

    @property
    def lipschitz_ceiling(self) -> float:
        """Of the evaluation mode."""
        return (self.log_scale - 0.5 * (self.running_var + self.eps).log()).detach().abs().max().exp().item()


def _mean(x: Tensor) -> Tensor:
    """Mean over the batch and over all but the first event dimension, shaped like the parameters.

    Of a batch that several processes share, over the rows of them all.
    """
    sums = x.sum([0, *range(2, x.ndim)], keepdim=True)[0]
    return sum_over_batch(sums) / sum_over_batch(torch.full_like(sums, x[:, 0].numel()))


def _variance(x: Tensor) -> Tensor:
    return _mean((x - _mean(x)).square())
