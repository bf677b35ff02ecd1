"""Importance-weighted bound: log (1/m) Σ_i w_i. It tightens as m grows; with m = 1 it is the ELBO.

Reference: Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", ICLR 2016
(https://arxiv.org/abs/1509.00519); for gradient=dreg: Tucker, Lawson, Gu, Maddison, "Doubly reparameterized gradient
estimators for Monte Carlo objectives", ICLR 2019 (https://arxiv.org/abs/1810.04152).
"""

from __future__ import annotations

from torch import Tensor

from ..cif.gradients import DoublyReparametrised, Gradient
from ..cif.importance import log_mean_exp
from ..registry import OBJECTIVES
from .base import estimated

__all__ = ["iwae"]


@OBJECTIVES.register("iwae", importance_samples=10)
@estimated(reparametrised=Gradient, dreg=DoublyReparametrised)
def iwae(log_w: Tensor) -> Tensor:
    """E_q[log (w_1 + … + w_m)/m]: a bound that tightens with m, at m times the cost of a step.

    Arguments:
        log_w: Log-weights of m draws for each datum, (m, batch), in nats.

    Returns: The objective of each datum, (batch,), in nats.
    """
    return log_mean_exp(log_w)
