"""What makes a flow continuously indexed: u_l, its prior p_l and inference q_l, and the map it steers.

    u_l ~ p_l(u_l | z_{l−1}),     F_l(z; u) = f_l(e^{−s_l(u)} ⊙ z − t_l(u))                          generative
    u_l ~ q_l(u_l | z_l),         F_l⁻¹(x; u) = e^{s_l(u)} ⊙ (f_l⁻¹(x) + t_l(u))                      inference

An `Index` knows nothing of which flow f_l belongs to: it takes f_l⁻¹(x) and u, and gives F_l⁻¹(x; u). What u does to
f_l⁻¹(x) is an `Action`: above the affine one with parameters (s, t), and there are others. p_l and q_l are diagonal
Gaussians, and q_l is given by how it differs from p_l:

    p_l(u | z) = N(μ(z), σ(z)²),     q_l(u | x) = N(μ(y) + σ(y) Δμ(x), (σ(y) e^{Δ(x)})²)   with y = f_l⁻¹(x)

The action starts as the identity, and the network of (Δμ, Δ) at zero. So at first F_l⁻¹(x; u) = f_l⁻¹(x), q = p, and
each importance weight equals the density of the plain flow: training starts exactly at the baseline. Yet u already
depends on x, through μ and σ; without that, (s, t) would get no gradient that tells one u from another, and training
would start at a saddle point. Where p does not look at z (as in a variational autoencoder), or where q is given by
itself (`index.relative=false`, as published), nothing but a random start of q's network makes u depend on x, so there
it starts at random, and the CIF near the baseline only.

For images u_l is an image of `index.dim` channels and all networks are convolutional. Where a step works on the leading
part of an event (`bijections.multiscale`), so does its index.

References: Cornish, Caterini, Deligiannidis, Doucet, "Relaxing bijectivity constraints with continuously indexed
normalising flows", ICML 2020 (https://arxiv.org/abs/1909.13833); for q relative to p: Vahdat, Kautz, "NVAE: a deep
hierarchical variational autoencoder", NeurIPS 2020 (https://arxiv.org/abs/2007.03898).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ..nets.conv import ConvResNet
from ..nets.mlp import MLP
from .actions import Action
from .gaussian import DiagonalGaussian
from .gradients import Divided, held_fixed

__all__ = ["Constant", "Index"]

#: A network of an index: hidden sizes, or a word for a constant.
Network: TypeAlias = Sequence[int] | str


class Constant(nn.Module):
    """A network that does not look at its input: (batch, …) → (batch, *shape).

    Arguments:
        start: The output at first, if it is learned, of that shape.
        learned: Whether the constant is a parameter; else it is zero.
    """

    def __init__(self, start: Tensor, learned: bool) -> None:
        super().__init__()
        self.value: nn.Parameter | None = nn.Parameter(start.clone()) if learned else None
        self.shape = tuple(start.shape)

    def forward(self, x: Tensor) -> Tensor:
        if self.value is None:
            return x.new_zeros(len(x), *self.shape)
        return self.value.expand(len(x), *self.shape)


def network(spec: Network, shape: Sequence[int], start: Tensor, activation: str, random: bool = False) -> nn.Module:
    """The network that a config names by hidden sizes, or as a constant.

    It maps vectors (batch, in) to (batch, len(start)), and images (batch, C, H, W) to (batch, len(start), H, W). Its
    output at first is `start` everywhere, whatever the input, or `start` and what random weights add if `random`.
    """
    if isinstance(spec, str):
        whole = start.reshape(-1, *[1] * (len(shape) - 1)).expand(-1, *shape[1:])
        return Constant(whole, learned=spec == "learned_constant")
    kind = MLP if len(shape) == 1 else ConvResNet
    net = kind(shape[0], spec, len(start), activation, zero_init=not random)
    *_, bias = net.parameters()
    with torch.no_grad():
        bias.add_(start)
    return net


class Index(nn.Module):
    """The index of one step.

    A network is given by its hidden sizes, or by a word: "zero" or "standard_normal" (it is 0), "learned_constant".

    Arguments:
        shape: Shape of the part of an event that the index acts on, on the latent side of its step's bijection.
        data_shape: Shape of the part of an event that q looks at, on the data side of that bijection.
        action: What u does to z.
        dim: Size of u; for images, its channels.
        st: Network of the action's parameters.
        p: Network of p(u | z).
        q: Network of q(u | x).
        relative: Whether q is given relative to p at f⁻¹(x).
        activation: Of the networks.
    """

    #: How the gradient is estimated, for the time being; None for plain reparametrisation.
    gradient: Divided | None = None

    def __init__(
        self,
        shape: Sequence[int],
        data_shape: Sequence[int],
        action: Action,
        dim: int = 2,
        st: Network = (16, 16),
        p: Network = (16, 16),
        q: Network = (16, 16),
        relative: bool = True,
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        self.shape, self.data_shape = tuple(shape), tuple(data_shape)
        self.dim = dim
        self.action = action
        # An image of u steers an image of z, if each number of z has parameters of its own; else all are vectors.
        self.spatial = len(shape) == 3 and action.pointwise
        below, above = (tuple(s) if self.spatial else (math.prod(s),) for s in (shape, data_shape))
        self.u_shape = (dim, *below[1:])
        blind = isinstance(p, str)  # p does not look at z
        self.relative = relative and not isinstance(q, str)
        zero = torch.zeros(2 * dim)
        self.st = network(st, self.u_shape, action.initial(below[0]), activation, random=blind)
        self.p_net = network(p, below, zero, activation, random=True)
        self.q_net = network(q, above, zero, activation, random=blind or not self.relative)

    def p(self, z: Tensor) -> DiagonalGaussian:
        """p(u | z), a Gaussian a row of z (batch, *shape), over u (batch, *u_shape)."""
        return DiagonalGaussian(*self._read(self.p_net, _part(z, self.shape)).chunk(2, dim=1))

    def q(self, x: Tensor, below: Tensor) -> DiagonalGaussian:
        """q(u | x), a Gaussian a row, from x (batch, *data_shape) and below = f⁻¹(x) (batch, *shape)."""
        part = _part(x, self.data_shape)
        prior = self.p(below) if self.relative else None
        if self.gradient is None:
            return self._q(self.q_net, part, prior)
        fixed = None if prior is None else prior.detached()
        return self.gradient.q(
            held=lambda: self._q(held_fixed(self.q_net), part, prior),
            live=lambda: self._q(self.q_net, part.detach(), fixed),
        )

    def _q(self, net: Callable[[Tensor], Tensor], part: Tensor, prior: DiagonalGaussian | None) -> DiagonalGaussian:
        """What a network, if q is relative with p(u | f⁻¹(x)), says of the leading part of x."""
        mean, log_std = self._read(net, part).chunk(2, dim=1)
        return DiagonalGaussian(mean, log_std) if prior is None else prior.moved(mean, log_std)

    def weigh(self, z: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """f⁻¹(x) (batch, *shape) ↦ z_{l−1} = F⁻¹(x; u), its log-determinant and log p(u | z_{l−1}), both (batch,)."""
        z, log_det = self(z, u)
        return z, log_det, self.p(z).log_prob(u)

    def forward(self, z: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """f⁻¹(x) (batch, *shape) ↦ F⁻¹(x; u), and the log-determinant of this in nats, (batch,)."""
        part = _part(z, self.shape)
        result, log_det = self.action.forward(part.flatten(1), self._read(self.st, u).flatten(1))
        return self._whole(result, z), log_det

    def inverse(self, z: Tensor, u: Tensor) -> Tensor:
        """The z that `forward` takes to this one.

        Raises:
            ConvergenceError: An iterative inverse missed its tolerance.
        """
        part = _part(z, self.shape)
        return self._whole(self.action.inverse(part.flatten(1), self._read(self.st, u).flatten(1)), z)

    @property
    def inverse_residual(self) -> float | None:
        """The largest residual that the last `inverse` left; None if it is in closed form."""
        return self.action.inverse_residual

    def _read(self, net: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """The network's output for x, in x's precision: under mixed precision only the network is in less."""
        return net(x if self.spatial else x.flatten(1)).to(x.dtype)

    def _whole(self, part: Tensor, z: Tensor) -> Tensor:
        """The event z with its leading part replaced."""
        part = part.reshape(-1, *self.shape)
        return part if z.shape[1] == self.shape[0] else torch.cat([part, z[:, self.shape[0] :]], 1)


def _part(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The leading part of events x, along their first dimension."""
    return x if x.shape[1] == shape[0] else x[:, : shape[0]]
