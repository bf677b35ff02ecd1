"""Continuous normalising flow (FFJORD): a step is the flow of a differential equation.

    dz/dt = f(t, z),   z(0) = x,   z = z(1),        log|det ∂z/∂x| = ∫_0^1 tr ∂f/∂z dt

The trace is exact up to 8 dimensions and Hutchinson's estimate above.

Reference: Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud, "FFJORD: free-form continuous dynamics for scalable
reversible generative models", ICLR 2019 (https://arxiv.org/abs/1810.01367).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..bijections.base import Bijection
from ..bijections.cnf import CNF
from ..config.fields import Sizes, registered, setting
from ..registry import FLOWS
from .base import FlowConfig, with_norm


@registered(FLOWS, "cnf")
class FFJORD(FlowConfig):
    """Continuous normalising flow: an adaptive ODE solver (FFJORD, Grathwohl et al., 2019)."""

    depth: int = setting(1, "number of differential equations L, one after the other", ge=1)
    hidden: Sizes = setting([64, 64, 64], "hidden sizes of each f")
    tolerance: float = setting(1e-4, "error a solver step may make in training, absolute and relative", gt=0, lt=1)
    eval_tolerance: float = setting(1e-6, "the same in evaluation and sampling", gt=0, lt=1)

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        (features,) = self.flat(shape)
        steps = [CNF(features, self.hidden, self.tolerance, self.eval_tolerance) for _ in range(self.depth)]
        return with_norm(steps, self.norm)
