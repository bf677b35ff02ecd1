"""What importance weights say about log p(x): streamed, so that memory does not grow with their number.

    IWAE_m(x) = log (1/m) Σ_{i≤m} w_i  ↑ log p(x)  as m → ∞
    ELBO(x)   = (1/m) Σ_{i≤m} log w_i
    ESS(x)    = (Σ w_i)² / Σ w_i²,  between 1 and m

Where log-determinants are estimated, log w is known up to noise of mean zero, and the log of a mean of noisy weights is
too large: by half the variance of the noise, if m is large and the noise is normal. So each log w is estimated twice,
as a_i and b_i, with independent noise. With π = softmax(a), and because log Σ e^{l_i} = max_π Σ π_i (l_i − log π_i),

    E_b[ Σ_i π_i (b_i − log(m π_i)) ] = Σ_i π_i (log w_i − log(m π_i)) ≤ log (1/m) Σ_i w_i

is a lower bound whatever m and whatever the noise; it is log mean e^a + Σ_i π_i (b_i − a_i), and for m = 1 the ELBO.
The noise a is the same for all importance samples of a datum: what it adds to all of them alike leaves π as it is.

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

from ..errors import ConfigError

__all__ = [
    "Estimate",
    "Piece",
    "Sums",
    "Weights",
    "accumulate",
    "corrections",
    "log_mean_exp",
    "mean_and_error",
    "mean_se",
    "pieces",
    "weight_matrices",
]

#: Passes through a model that somebody may wait for.
MOST_PASSES = 10**7


def log_mean_exp(log_w: Tensor, dim: int = 0) -> Tensor:
    """log (1/m) Σ e^{log w_i} over a dimension of size m: IWAE_m of m log-weights, in nats."""
    return log_w.logsumexp(dim) - math.log(log_w.shape[dim])


def mean_se(values: Tensor) -> tuple[float, float]:
    """The mean of n numbers and its standard error s/√n; NaN for one number, which has no spread."""
    std = values.std().item() if len(values) > 1 else math.nan
    return values.mean().item(), std / math.sqrt(len(values))


def mean_and_error(values: Tensor, name: str) -> dict[str, float]:
    """{name: the mean over data, name_se: its standard error}, as of `mean_se`."""
    return dict(zip((name, f"{name}_se"), mean_se(values), strict=True))


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
    """log Σ w, log Σ w², Σ log w, and Σ π (b − a) of each datum, each (batch,)."""

    log_sum: Tensor
    log_sum_squares: Tensor
    total: Tensor
    correction: Tensor

    @classmethod
    def of(cls, log_w: Tensor, again: Tensor | None = None) -> Sums:
        """The sums of log-weights a (k, batch), and of the same with other noise, b, where there is noise."""
        correction = torch.zeros_like(log_w[0]) if again is None else corrections(log_w, again)
        return cls(log_w.logsumexp(0), (2 * log_w).logsumexp(0), log_w.sum(0), correction)

    @classmethod
    def nothing(cls, count: int, like: Tensor) -> Sums:
        """The sums of no weights at all, of `count` data."""
        nothing = like.new_full((count,), -math.inf)
        return cls(nothing, nothing.clone(), like.new_zeros(count), like.new_zeros(count))

    def plus(self, other: Sums) -> Sums:
        """The sums of both."""
        log_sum = torch.logaddexp(self.log_sum, other.log_sum)
        return Sums(
            log_sum,
            torch.logaddexp(self.log_sum_squares, other.log_sum_squares),
            self.total + other.total,
            self.part_of(log_sum) + other.part_of(log_sum),
        )

    def part_of(self, log_sum: Tensor) -> Tensor:
        """What the correction here adds to that of weights whose log Σ w is `log_sum`, these among them."""
        share = torch.exp(self.log_sum - log_sum)
        return torch.where(self.correction == 0, 0.0, share * self.correction)

    def estimate(self, m: int) -> Estimate:
        """What m weights a datum say."""
        ess = torch.exp(2 * self.log_sum - self.log_sum_squares)
        return Estimate(self.log_sum - math.log(m) + self.correction, self.total / m, ess, m)


def corrections(log_w: Tensor, again: Tensor, dim: int = 0) -> Tensor:
    """Σ_i π_i (b_i − a_i) over a dimension: what makes of log mean e^a a lower bound where a and b are noisy log w."""
    share = log_w.softmax(dim)
    return torch.where(share == 0, 0.0, share * (again - log_w)).sum(dim)  # a weight of zero may be −∞ twice


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

    Raises:
        ConfigError: There are so many that the work would never end.
    """
    m, size = importance_samples, max(1, chunk_size // rows)
    if (passes := max(1, math.ceil(count / rows)) * math.ceil(m / size)) > MOST_PASSES:
        raise ConfigError(
            f"{m} importance samples of {count:,} data are {passes:,} passes through the model: take fewer, or raise "
            f"the chunk size"
        )
    return [
        Piece(block, chunk, slice(block * rows, min((block + 1) * rows, count)), min(size, m - chunk * size))
        for block in range(max(1, math.ceil(count / rows)))
        for chunk in range(math.ceil(m / size))
    ]


class Weights(NamedTuple):
    """A piece with its log-weights, and with the same under other noise where log-determinants are estimated."""

    piece: Piece
    log_w: Tensor  # (importance samples, data)
    again: Tensor | None = None


def accumulate(parts: Iterable[Weights]) -> dict[int, Sums]:
    """The sums of each block, by its number."""
    found: dict[int, Sums] = {}
    for piece, log_w, again in parts:
        sums = Sums.of(log_w, again)
        found[piece.block] = found[piece.block].plus(sums) if piece.block in found else sums
    return found


def weight_matrices(parts: Iterable[Weights]) -> tuple[Tensor, Tensor | None]:
    """All log-weights, (m, data), and the same under other noise; None where there is no noise."""
    blocks: dict[int, list[Weights]] = {}
    for part in parts:
        blocks.setdefault(part.piece.block, []).append(part)
    log_w = torch.cat([torch.cat([part.log_w for part in block]) for block in blocks.values()], 1)
    again = [[part.again for part in block if part.again is not None] for block in blocks.values()]
    return log_w, torch.cat([torch.cat(block) for block in again], 1) if again[0] else None
