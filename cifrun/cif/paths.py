"""A datum together with the u that made it: the path from z_0 to x, held fixed.

    generative    z_0 ~ p_0,  u_l ~ p_l(u_l | z_{l−1}),  z_l = F_l(z_{l−1}; u_l),        x = z_L
    inference     u_l ~ q_l(u_l | z_l),                  z_{l−1} = F_l⁻¹(z_l; u_l),      l = L … 1

With u = (u_1, …, u_L) held fixed, x = F(z_0; u) is a bijection, and what one asks of a flow can be asked of a CIF.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .model import Model, standard_normal

__all__ = ["Path", "generate", "infer", "inward", "log_weight", "outward"]


class Path(NamedTuple):
    """Ends of a path, and the u between them.

    Attributes:
        x: (batch, *shape).
        u: For each step from the data inward, (batch, …), or None where it carries no index.
        z: z_0, (batch, *latent_shape).
    """

    x: Tensor
    u: tuple[Tensor | None, ...]
    z: Tensor

    def to(self, dtype: torch.dtype) -> Path:
        """The same path in another precision; its ends then fit together as well as they did before."""
        return Path(self.x.to(dtype), tuple(None if u is None else u.to(dtype) for u in self.u), self.z.to(dtype))


@torch.no_grad()
def generate(model: Model, z: Tensor) -> Path:
    """The model's own draws: x and u for each z_0 (batch, *latent_shape). Raises `ConvergenceError`."""
    model.prepare()
    x, drawn = z, []
    for step in reversed(model.steps):
        u = None if step.index is None else step.index.p(x).sample()
        drawn.append(u)
        if step.index is not None and u is not None:
            x = step.index.inverse(x, u)
        x = step.bijection.inverse(x)
    return Path(x, tuple(reversed(drawn)), z)


@torch.no_grad()
def infer(model: Model, x: Tensor) -> Path:
    """u ~ q(· | x) and z_0 for data x, (batch, *shape)."""
    model.prepare()
    z, drawn = x, []
    for step in model.steps:
        below, _ = step.bijection(z)
        u = None if step.index is None else step.index.q(z, below).sample()
        drawn.append(u)
        z = below if step.index is None or u is None else step.index(below, u)[0]
    return Path(x, tuple(drawn), z)


@torch.no_grad()
def inward(model: Model, x: Tensor, u: Sequence[Tensor | None]) -> Tensor:
    """F⁻¹(x; u), (batch, *latent_shape)."""
    model.prepare()
    z = x
    for step, u_l in zip(model.steps, u, strict=True):
        z, _ = step.bijection(z)
        if step.index is not None and u_l is not None:
            z, _ = step.index(z, u_l)
    return z


@torch.no_grad()
def outward(model: Model, z: Tensor, u: Sequence[Tensor | None]) -> Tensor:
    """F(z; u), (batch, *shape). Raises `ConvergenceError` if an iterative inverse misses its tolerance."""
    model.prepare()
    for step, u_l in zip(reversed(model.steps), reversed(u), strict=True):
        if step.index is not None and u_l is not None:
            z = step.index.inverse(z, u_l)
        z = step.bijection.inverse(z)
    return z


@torch.no_grad()
def log_weight(model: Model, path: Path) -> Tensor:
    """log w(x, u) = log p(x, u) − log q(u | x) of a path, in nats, (batch,)."""
    model.prepare()
    z, log_w = path.x, path.x.new_zeros(len(path.x))
    for step, u in zip(model.steps, path.u, strict=True):
        below, log_det = step.bijection(z)
        log_w = log_w + log_det
        if step.index is not None and u is not None:
            log_q = step.index.q(z, below).log_prob(u)
            below, log_det = step.index(below, u)
            log_w = log_w + log_det + step.index.p(below).log_prob(u) - log_q
        z = below
    return log_w + standard_normal(z)
