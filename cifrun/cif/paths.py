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

from .model import Model

__all__ = ["Path", "generate", "infer", "log_weight", "outward", "reconstruct"]


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
    """The model's own draws: x and u for each z_0 (batch, *latent_shape).

    Raises:
        ConvergenceError: An iterative inverse missed its tolerance.
    """
    model.prepare()
    moves = list(model.outward(z))
    return Path(moves[-1].z, tuple(move.u for move in reversed(moves)), z)


@torch.no_grad()
def infer(model: Model, x: Tensor) -> Path:
    """u ~ q(· | x) and z_0 for data x, (batch, *shape)."""
    model.prepare()
    moves = list(model.inward(x))
    return Path(x, tuple(move.u for move in moves), moves[-1].z)


@torch.no_grad()
def outward(model: Model, z: Tensor, u: Sequence[Tensor | None]) -> Tensor:
    """F(z; u), (batch, *shape).

    Raises:
        ConvergenceError: An iterative inverse missed its tolerance.
    """
    model.prepare()
    return model.generate(z, u)


def reconstruct(model: Model, x: Tensor) -> Tensor:
    """F(F⁻¹(x; u); u), (batch, *shape), with u ~ q(· | x): x again, but for what inverses lose.

    Raises:
        ConvergenceError: an iterative inverse missed its tolerance.
    """
    path = infer(model, x)
    return outward(model, path.z, path.u)


@torch.no_grad()
def log_weight(model: Model, path: Path) -> Tensor:
    """log w(x, u) = log p(x, u) − log q(u | x) of a path, in nats, (batch,)."""
    model.prepare()
    log_w = model.base.log_prob(path.z)
    for moved in model.inward(path.x, path.u):
        log_w = log_w + moved.log_w
    return log_w
