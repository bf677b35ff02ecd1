"""Reweighted wake-sleep, its two wake steps: p climbs the importance-weighted bound, q comes near the posterior.

    w̃_i = w_i / Σ_j w_j,      θ:  Σ_i w̃_i ∂θ log p(x, u_i),      φ:  Σ_i w̃_i ∂φ log q(u_i | x),      u_i fixed

θ are the weights of p and of the maps, φ those of the networks of q. No one number has this gradient. The first is that
of log (1/m) Σ_i w_i for a q that is left alone, and this bound is what training reports. The second lowers
KL(p(u | x) ‖ q): q is to cover the posterior, where the ELBO lets it keep to a part. Both are exact as m grows; for
finite m they are those of another distribution than the posterior, of which the u_i are resampled.

Reference: Bornschein, Bengio, "Reweighted wake-sleep", ICLR 2015 (https://arxiv.org/abs/1406.2751); for gradient=dreg:
Tucker, Lawson, Gu, Maddison, "Doubly reparameterized gradient estimators for Monte Carlo objectives", ICLR 2019
(https://arxiv.org/abs/1810.04152).
"""

from __future__ import annotations

from torch import Tensor

from ..cif.gradients import Wake, WakeDoublyReparametrised
from ..cif.importance import log_mean_exp
from ..registry import OBJECTIVES
from .base import estimated

__all__ = ["rws"]


@OBJECTIVES.register("rws", importance_samples=10)
@estimated(least=2, reparametrised=Wake, dreg=WakeDoublyReparametrised)
def rws(log_w: Tensor) -> Tensor:
    """Reweighted wake-sleep: p as in iwae, and q by the weighted draws; what is logged is E_q[log (w_1 + … + w_m)/m].

    Arguments:
        log_w: Log-weights of m draws for each datum, (m, batch), in nats.

    Returns: The bound that the gradient of p is of, for each datum, (batch,), in nats.
    """
    return log_mean_exp(log_w)
