"""What importance weights say about log p(x): streamed, so that memory does not grow with their number.

    IWAE_m(x) = log (1/m) Σ_{i≤m} w_i  ↑ log p(x)  as m → ∞
    ELBO(x)   = (1/m) Σ_{i≤m} log w_i
    ESS(x)    = (Σ w_i)² / Σ w_i²,  between 1 and m

Reference: Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", ICLR 2016
(https://arxiv.org/abs/1509.00519).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Estimate", "accumulate"]


@dataclass(frozen=True)
class Estimate:
    """Estimates for each datum, all (batch,); the first two in nats.

    Attributes:
        log_likelihood: IWAE_m, or the exact log p(x) of a plain flow.
        elbo: Mean log-weight.
        ess: Effective number of importance samples.
        importance_samples: m.
    """

    log_likelihood: Tensor
    elbo: Tensor
    ess: Tensor
    importance_samples: int

    @staticmethod
    def concatenate(parts: list[Estimate]) -> Estimate:
        """The estimates of several batches as one."""
        return Estimate(
            torch.cat([p.log_likelihood for p in parts]),
            torch.cat([p.elbo for p in parts]),
            torch.cat([p.ess for p in parts]),
            parts[0].importance_samples,
        )


def accumulate(chunks: Iterable[Tensor]) -> Estimate:
    """One `Estimate` from log-weights that arrive as (k, batch) chunks; each chunk may be dropped afterwards."""
    log_sum = log_sum_squares = total = torch.tensor(0.0)
    m = 0
    for log_w in chunks:
        first, second = log_w.logsumexp(0), (2 * log_w).logsumexp(0)
        if m == 0:
            log_sum, log_sum_squares, total = first, second, log_w.sum(0)
        else:
            log_sum = torch.logaddexp(log_sum, first)
            log_sum_squares = torch.logaddexp(log_sum_squares, second)
            total = total + log_w.sum(0)
        m += len(log_w)
    return Estimate(log_sum - math.log(m), total / m, torch.exp(2 * log_sum - log_sum_squares), m)
