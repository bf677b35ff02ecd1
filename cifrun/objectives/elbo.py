"""Evidence lower bound: (1/m) Σ_i log w_i, whose mean is at most log p(x)."""

from __future__ import annotations

from torch import Tensor

from ..registry import OBJECTIVES

__all__ = ["elbo"]


@OBJECTIVES.register("elbo")
def elbo(log_w: Tensor) -> Tensor:
    """E_q[log w]: a lower bound of log p(x); for a plain flow, log p(x) itself.

    Arguments:
        log_w: Log-weights of m draws for each datum, (m, batch), in nats.

    Returns: The objective of each datum, (batch,), in nats.
    """
    return log_w.mean(0)
