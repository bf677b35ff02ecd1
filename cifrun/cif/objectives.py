"""What training maximises: numbers from log-weights (m, batch).

    elbo:  (1/m) Σ_i log w_i            E_q[log w] ≤ log p(x)
    iwae:  log (1/m) Σ_i w_i            tighter as m grows (Burda et al., 2016, https://arxiv.org/abs/1509.00519)

Each takes log w (m, batch) and returns the objective of each datum, (batch,), in nats. With m = 1 they are the same.
"""

from __future__ import annotations

import math

from torch import Tensor

from ..registry import OBJECTIVES

__all__ = ["elbo", "iwae"]


@OBJECTIVES.register("elbo")
def elbo(log_w: Tensor) -> Tensor:
    """Evidence lower bound: the mean of log w."""
    return log_w.mean(0)


@OBJECTIVES.register("iwae")
def iwae(log_w: Tensor) -> Tensor:
    """Importance-weighted bound: the log of the mean of w."""
    return log_w.logsumexp(0) - math.log(len(log_w))
