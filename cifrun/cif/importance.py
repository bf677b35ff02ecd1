"""What importance weights say about log p(x): streamed, so that memory does not grow with their number.

    IWAE_m(x) = log (1/m) Σ_{i≤m} w_i  ↑ log p(x)  as m → ∞
    ELBO(x)   = (1/m) Σ_{i≤m} log w_i
    ESS(x)    = (Σ w_i)² / Σ w_i²,  between 1 and m

The work is cut into pieces: some data times some importance samples. `Model.log_weights` goes through them, and
`accumulate` adds up what they give. Evaluation, `Model.log_prob` and diagnostics all go this way.

Reference: Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", ICLR 2016
(https://arxiv.org/abs/1509.00519).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Estimate",
    "Piece",
    "Sums",
    "accumulate",
    "log_mean_exp",
    "mean_and_error",
    "pieces",
    "weight_matrix",
]


def log_mean_exp(log_w: Tensor, dim: int = 0) -> Tensor:
    """log (1/m) Σ e^{log w_i} over a dimension of size m: IWAE_m of m log-weights, in nats."""
    return log_w.logsumexp(dim) - math.log(log_w.shape[dim])


def mean_and_error(values: Tensor, name: str) -> dict[str, float]:
    """{name: the mean over data, name_se: its standard error s/√n}; NaN for one datum, which has no spread."""
    std = values.std().item() if len(values) > 1 else math.nan
    return {name: values.mean().item(), f"{name}_se": std / math.sqrt(len(values))}


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
        names = ("log_likelihood", "elbo", "ess")
        log_likelihood, elbo, ess = (torch.cat([getattr(part, name) for part in parts]) for name in names)
        return Estimate(log_likelihood, elbo, ess, parts[0].importance_samples)


class Sums(NamedTuple):
    """log Σ w, log Σ w² and Σ log w of each datum, each (batch,)."""

    log_sum: Tensor
    log_sum_squares: Tensor
    total: Tensor

    @classmethod
    def of(cls, log_w: Tensor) -> Sums:
        """The sums of log-weights (k, batch)."""
        return cls(log_w.logsumexp(0), (2 * log_w).logsumexp(0), log_w.sum(0))

    @classmethod
    def nothing(cls, count: int, like: Tensor) -> Sums:
        """The sums of no weights at all, of `count` data."""
        nothing = like.new_full((count,), -math.inf)
        return cls(nothing, nothing.clone(), like.new_zeros(count))

    def plus(self, other: Sums) -> Sums:
        """The sums of both."""
        return Sums(
            torch.logaddexp(self.log_sum, other.log_sum),
            torch.logaddexp(self.log_sum_squares, other.log_sum_squares),
            self.total + other.total,
        )

    def estimate(self, m: int) -> Estimate:
        """What m weights a datum say."""
        ess = torch.exp(2 * self.log_sum - self.log_sum_squares)
        return Estimate(self.log_sum - math.log(m), self.total / m, ess, m)


# --- the work in pieces -----------------------------------------------------------------------------------------------


#: Data of a block, where random numbers are a matter of the seed and of where a datum stands.
ROWS = 1000


class Piece(NamedTuple):
    """A part of the work: some importance samples of some data."""

    block: int  # which block of data, from 0
    chunk: int  # which importance samples of that block, from 0
    rows: slice  # the data of the block
    importance_samples: int  # how many


def pieces(count: int, importance_samples: int, rows: int, chunk_size: int) -> list[Piece]:
    """The pieces of `count` data × m importance samples, block after block.

    Arguments:
        rows: Data of a block.
        chunk_size: Data × importance samples of a piece, at most (but one importance sample of a block at least).
    """
    m, size = importance_samples, max(1, chunk_size // rows)
    return [
        Piece(block, chunk, slice(block * rows, min((block + 1) * rows, count)), min(size, m - chunk * size))
        for block in range(max(1, math.ceil(count / rows)))
        for chunk in range(math.ceil(m / size))
    ]


def accumulate(parts: Iterable[tuple[Piece, Tensor]]) -> dict[int, Sums]:
    """The sums of each block, by its number, from pieces with their log-weights (importance samples, data)."""
    found: dict[int, Sums] = {}
    for piece, log_w in parts:
        sums = Sums.of(log_w)
        found[piece.block] = found[piece.block].plus(sums) if piece.block in found else sums
    return found


def weight_matrix(parts: Iterable[tuple[Piece, Tensor]]) -> Tensor:
    """All log-weights, (m, data), from pieces with their own."""
    blocks: dict[int, list[Tensor]] = {}
    for piece, log_w in parts:
        blocks.setdefault(piece.block, []).append(log_w)
    return torch.cat([torch.cat(block) for block in blocks.values()], 1)
