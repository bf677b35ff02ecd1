"""Where an index works: how far u moves a point at each step, and which u q infers from which x.

    reach_l² = E |f(z, u) − f(z, u')|² / 2D,    z = z_{l−1} along the model's own paths,  u, u' ~ p_l(u | z)

with f what u does to z before the step's bijection: the standard deviation of a coordinate that u alone causes. A step
of reach 0 is a step of the plain flow.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..cif.index import DiagonalGaussian
from ..cif.model import Model
from ..cif.paths import Path

__all__ = ["posteriors", "reach"]


@torch.no_grad()
def reach(model: Model, path: Path) -> list[float | None]:
    """The reach of each step's index from the data inward, in units of z there; None for a step without one."""
    z, result = path.z, list[float | None]()
    for step, u in zip(reversed(model.steps), reversed(path.u), strict=True):
        if step.index is None or u is None:
            result.append(None)
        else:
            here, there = (step.index.inverse(z, of) for of in (u, step.index.p(z).sample()))
            result.append(math.sqrt((here - there).square().mean().item() / 2))
            z = here
        z = step.bijection.inverse(z)
    return result[::-1]


@torch.no_grad()
def posteriors(model: Model, x: Tensor) -> list[DiagonalGaussian | None]:
    """q_l(u | z_l) of each step for x (batch, *shape), with every other u at its mean on the way inward."""
    model.prepare()
    z, result = x, list[DiagonalGaussian | None]()
    for step in model.steps:
        below, _ = step.bijection(z)
        q = None if step.index is None else step.index.q(z, below)
        result.append(q)
        z = below if step.index is None or q is None else step.index(below, q.mean)[0]
    return result
