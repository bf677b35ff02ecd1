"""Evidence lower bound: (1/m) Σ_i log w_i, whose mean is at most log p(x).

Reference for gradient=stl: Roeder, Wu, Duvenaud, "Sticking the landing: simple, lower-variance gradient estimators for
variational inference", NeurIPS 2017 (https://arxiv.org/abs/1703.09194).
"""

from __future__ import annotations

from torch import Tensor

from ..cif.gradients import Gradient, PathDerivative
from ..registry import OBJECTIVES
from .base import estimated

__all__ = ["elbo"]


@OBJECTIVES.register("elbo")
@estimated(reparametrised=Gradient, stl=PathDerivative)
def elbo(log_w: Tensor) -> Tensor:
    """E_q[log w]: a lower bound of log p(x); for a plain flow, log p(x) itself.

    Arguments:
        log_w: Log-weights of m draws for each datum, (m, batch), in nats.

    Returns: The objective of each datum, (batch,), in nats.
    """
    return log_w.mean(0)
