"""A step that is no bijection: pixels of 0 and 1 that are drawn given a vector z, and an encoder that guesses z.

    generative    z ↦ x,   x_i ~ Bernoulli(sigmoid(η_i(z)))
    inference     x ↦ z,   z ~ q(z | x) = N(μ(x), σ(x)²),        term   log p(x | z) − log q(z | x)

The term stands where a bijection has its log-determinant: added to log p(z), it makes log w of a variational
autoencoder, E log w its ELBO, and IWAE_m a bound of the log-probability of the pixels.

Reference: Kingma, Welling, "Auto-encoding variational Bayes", ICLR 2014 (https://arxiv.org/abs/1312.6114).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..compute.rng import normal
from ..nets.mlp import MLP
from .base import Bijection


class BernoulliDecoder(Bijection):
    """Pixels given a latent vector, and the vector given pixels; both networks look at, or make, all pixels at once.

    Arguments:
        shape: Shape of an event, of zeros and ones.
        dim: Size of z.
        hidden: Hidden sizes of the encoder; of the decoder in reverse.
        activation: Of both.
    """

    indexable = False
    exact_log_det = False
    exact_in_training = False
    compilable = False
    stochastic = True

    def __init__(self, shape: Sequence[int], dim: int, hidden: Sequence[int], activation: str = "tanh") -> None:
        super().__init__(shape, (dim,))
        pixels = math.prod(shape)
        self.encoder = MLP(pixels, hidden, 2 * dim, activation)
        self.decoder = MLP(dim, list(reversed(hidden)), pixels, activation)

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        pixels = x.flatten(1)
        mean, log_std = self.encoder(pixels).to(x.dtype).chunk(2, dim=1)
        noise = normal(mean.shape, mean)
        z = mean + torch.exp(log_std) * noise
        log_q = (-0.5 * (noise * noise + math.log(2 * math.pi)) - log_std).sum(1)
        logits = self.decoder(z).to(x.dtype)
        return z, (pixels * logits - F.softplus(logits)).sum(1) - log_q

    def _inverse(self, z: Tensor) -> Tensor:
        return torch.bernoulli(torch.sigmoid(self.decoder(z).to(z.dtype))).unflatten(1, self.shape)

    def describe(self) -> str:
        return f"Bernoulli pixels given z ∈ R^{self.latent_shape[0]}"
