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

from ..compute.processes import log_total, total

__all__ = ["Estimate", "Sums", "accumulate"]


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


class Sums:
    """Σ w, Σ w² and Σ log w of each datum, to which log-weights are added as they come.

    Arguments:
        count: Data.
        like: Gives precision and device.
    """

    def __init__(self, count: int, like: Tensor) -> None:
        self.log_sum = like.new_full((count,), -math.inf)
        self.log_sum_squares = self.log_sum.clone()
        self.total = like.new_zeros(count)

    def add(self, log_w: Tensor, rows: slice = slice(None)) -> None:
        """Log-weights (k, batch) of the data in `rows`."""
        self.log_sum[rows] = torch.logaddexp(self.log_sum[rows], log_w.logsumexp(0))
        self.log_sum_squares[rows] = torch.logaddexp(self.log_sum_squares[rows], (2 * log_w).logsumexp(0))
        self.total[rows] += log_w.sum(0)

    def of_all_processes(self) -> Sums:
        """The sums of what was added in any process, in place; each must ask."""
        self.log_sum, self.log_sum_squares = log_total(self.log_sum), log_total(self.log_sum_squares)
        self.total = total(self.total)
        return self

    def estimate(self, m: int) -> Estimate:
        """What m weights a datum say."""
        ess = torch.exp(2 * self.log_sum - self.log_sum_squares)
        return Estimate(self.log_sum - math.log(m), self.total / m, ess, m)


def accumulate(chunks: Iterable[Tensor]) -> Estimate:
    """One `Estimate` from log-weights that arrive as (k, batch) chunks; each chunk may be dropped afterwards."""
    sums, m = None, 0
    for log_w in chunks:
        sums = Sums(log_w.shape[1], log_w) if sums is None else sums
        sums.add(log_w)
        m += len(log_w)
    if sums is None:
        raise ValueError("there are no weights to accumulate")
    return sums.estimate(m)
