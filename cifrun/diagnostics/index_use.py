"""Where an index works: how far u moves a point at each step, and which u q infers from which x.

    reach_l² = E |f(z, u) − f(z, u')|² / 2D,    z = z_{l−1} along the model's own paths,  u, u' ~ p_l(u | z)

with f what u does to z before the step's bijection: the standard deviation of a coordinate that u alone causes. A step
of reach 0 is a step of the plain flow.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..cif.gaussian import DiagonalGaussian
from ..cif.index import Index
from ..cif.model import Model
from ..cif.paths import Path


@torch.no_grad()
def reach(model: Model, path: Path) -> list[float | None]:
    """The reach of each step's index from the data inward, in units of z there; None for a step without one."""
    found = [
        None if step.index is None or moved.u is None else _reach(step.index, moved.before, moved.u)
        for step, moved in zip(reversed(model.steps), model.outward(path.z, path.u), strict=True)
    ]
    return found[::-1]


def _reach(index: Index, z: Tensor, u: Tensor) -> float:
    here, there = (index.inverse(z, of) for of in (u, index.p(z).sample()))
    return math.sqrt((here - there).square().mean().item() / 2)


@torch.no_grad()
def posteriors(model: Model, x: Tensor) -> list[DiagonalGaussian | None]:
    """q_l(u | z_l) of each step for x (batch, *shape), with every other u at its mean on the way inward."""
    model.prepare()
    return [moved.q for moved in model.inward(x, lambda q: q.mean)]
