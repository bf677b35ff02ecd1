"""What makes a flow continuously indexed: u_l, its prior p_l and inference q_l, and the map it steers.

    u_l ~ p_l(u_l | z_{l−1}),     F_l(z; u) = f_l(e^{−s_l(u)} ⊙ z − t_l(u))                          generative
    u_l ~ q_l(u_l | z_l),         F_l⁻¹(x; u) = e^{s_l(u)} ⊙ (f_l⁻¹(x) + t_l(u))                      inference

An `Index` knows nothing of which flow f_l belongs to: it takes f_l⁻¹(x) and u, and gives F_l⁻¹(x; u). p_l and q_l are
diagonal Gaussians, and q_l is given by how it differs from p_l:

    p_l(u | z) = N(μ(z), σ(z)²),     q_l(u | x) = N(μ(y) + σ(y) Δμ(x), (σ(y) e^{Δ(x)})²)   with y = f_l⁻¹(x)

The networks of (s, t) and (Δμ, Δ) start at zero. So at first F_l⁻¹(x; u) = f_l⁻¹(x), q = p, and each importance weight
equals the density of the plain flow: training starts exactly at the baseline. Yet u already depends on x, through μ and
σ; without that, (s, t) would get no gradient that tells one u from another, and training would start at a saddle point.

References: Cornish, Caterini, Deligiannidis, Doucet, "Relaxing bijectivity constraints with continuously indexed
normalising flows", ICML 2020 (https://arxiv.org/abs/1909.13833); for q relative to p: Vahdat, Kautz, "NVAE: a deep
hierarchical variational autoencoder", NeurIPS 2020 (https://arxiv.org/abs/2007.03898).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .config import IndexConfig
from .nets.mlp import MLP

__all__ = ["Constant", "DiagonalGaussian", "Index"]

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class DiagonalGaussian(NamedTuple):
    """N(mean, diag(exp(log_std))²), one a row: both (batch, dim)."""

    mean: Tensor
    log_std: Tensor

    def log_prob(self, u: Tensor) -> Tensor:
        """Log-density at u (batch, dim), in nats, (batch,)."""
        noise = (u - self.mean) * torch.exp(-self.log_std)
        return (-0.5 * noise * noise - self.log_std - LOG_SQRT_2PI).flatten(1).sum(1)

    def sample(self, count: int = 1) -> Tensor:
        """`count` reparametrised draws a row, (count · batch, dim): all rows once, then all rows again, …"""
        noise = torch.randn((count, *self.mean.shape), dtype=self.mean.dtype, device=self.mean.device)
        return (self.mean + torch.exp(self.log_std) * noise).flatten(0, 1)

    def repeat(self, count: int) -> DiagonalGaussian:
        """The same Gaussians `count` times over, in the order of `sample`."""
        return DiagonalGaussian(repeat(self.mean, count), repeat(self.log_std, count))


def repeat(x: Tensor, count: int) -> Tensor:
    """x (batch, …) `count` times over: (count · batch, …)."""
    return x if count == 1 else x.expand(count, *x.shape).flatten(0, 1)


class Constant(nn.Module):
    """A network that does not look at its input: (batch, …) → (batch, size), zero at first.

    Arguments:
        size: Size of the output.
        learned: Whether the constant is a parameter; else it stays zero.
    """

    def __init__(self, size: int, learned: bool) -> None:
        super().__init__()
        self.value: nn.Parameter | None = nn.Parameter(torch.zeros(size)) if learned else None
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if self.value is None:
            return x.new_zeros(len(x), self.size)
        return self.value.expand(len(x), self.size)


def network(
    spec: list[int] | str, in_features: int, out_features: int, activation: str, zero_init: bool = True
) -> nn.Module:
    """The network that a config names by hidden sizes, or as a constant: (batch, in) → (batch, out)."""
    if isinstance(spec, str):
        return Constant(out_features, learned=spec == "learned_constant")
    return MLP(in_features, spec, out_features, activation, zero_init)


class Index(nn.Module):
    """The index of one step.

    Arguments:
        shape: Shape of one event where the index acts, which is the latent side of its step's bijection.
        data_shape: Shape of one event on the data side of that bijection, which q looks at.
        config: Size of u and the networks of (s, t), p and q.
    """

    def __init__(self, shape: Sequence[int], data_shape: Sequence[int], config: IndexConfig) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.dim = config.dim
        features, data_features = math.prod(shape), math.prod(data_shape)
        self.st = network(config.st, config.dim, 2 * features, config.activation)
        self.p_net = network(config.p, features, 2 * config.dim, config.activation, zero_init=False)
        self.q_net = network(config.q, data_features, 2 * config.dim, config.activation)
        self.relative = not isinstance(config.q, str)

    def p(self, z: Tensor) -> DiagonalGaussian:
        """p(u | z), a Gaussian a row of z (batch, *shape)."""
        return DiagonalGaussian(*self.p_net(z.flatten(1)).chunk(2, dim=-1))

    def q(self, x: Tensor, below: Tensor) -> DiagonalGaussian:
        """q(u | x), a Gaussian a row, from x (batch, *data_shape) and below = f⁻¹(x) (batch, *shape)."""
        mean, log_std = self.q_net(x.flatten(1)).chunk(2, dim=-1)
        if not self.relative:
            return DiagonalGaussian(mean, log_std)
        prior = self.p(below)
        return DiagonalGaussian(prior.mean + torch.exp(prior.log_std) * mean, prior.log_std + log_std)

    def forward(self, z: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """e^{s(u)} ⊙ (z + t(u)), and its log-determinant Σ_i s(u)_i in nats, (batch,)."""
        s, t = self._st(u)
        return torch.exp(s) * (z + t), s.flatten(1).sum(1)

    def inverse(self, z: Tensor, u: Tensor) -> Tensor:
        """e^{−s(u)} ⊙ z − t(u)."""
        s, t = self._st(u)
        return torch.exp(-s) * z - t

    def _st(self, u: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self.st(u).chunk(2, dim=-1)
        return s.reshape(-1, *self.shape), t.reshape(-1, *self.shape)
