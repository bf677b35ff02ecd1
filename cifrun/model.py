"""The density: a flat list of steps from the data inward, each a bijection and, in a CIF, its index.

    log w(x, u) = log p_0(z_0) + Σ_l [ log p_l(u_l | z_{l−1}) + log|det ∂F_l⁻¹(z_l; u_l)/∂z_l| − log q_l(u_l | z_l) ]

One class serves plain flows (no step has an index: log w is log p(x)), CIFs and Gaussian VAEs (f = identity). `log_w`
is the one path by which training, evaluation and diagnostics get numbers.

Reference: Cornish, Caterini, Deligiannidis, Doucet, "Relaxing bijectivity constraints with continuously indexed
normalising flows", ICML 2020 (https://arxiv.org/abs/1909.13833).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .bijections.base import Bijection
from .importance import Estimate, accumulate
from .index import LOG_SQRT_2PI, DiagonalGaussian, Index, repeat
from .rng import forked

__all__ = ["Model", "Step"]


class Step(nn.Module):
    """One step of a model: f_l⁻¹, and the index that follows it, or none."""

    def __init__(self, bijection: Bijection, index: Index | None = None) -> None:
        super().__init__()
        self.bijection = bijection
        self.index = index


class _Start(NamedTuple):
    """How far x alone determines log w: the state just before the first u is drawn."""

    depth: int  # the position of the first indexed step
    z: Tensor  # f⁻¹(…) there, (batch, *shape)
    log_w: Tensor  # what has been added so far, (batch,)
    q: DiagonalGaussian | None  # the first q(u | z_l); None for a plain flow


class Model(nn.Module):
    """A density over events of one shape.

    Arguments:
        steps: From the data (f_L) inward (f_1).

    Shapes: x is (batch, *shape); every log-density is (batch,), in nats.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        self.steps: Sequence[Step] = nn.ModuleList(steps)  # type: ignore[assignment]
        self.shape = steps[0].bijection.shape
        self.latent_shape = steps[-1].bijection.latent_shape
        self.columns: tuple[str, ...] = ()  # names of the coordinates, where a run's data had them
        self._compiled: Callable[[Tensor, int], Tensor] | None = None

    @property
    def indexed(self) -> bool:
        """Whether any step has an index; then log-likelihoods are IWAE estimates, else log w is log p(x)."""
        return any(step.index is not None for step in self.steps)

    @property
    def exact(self) -> bool:
        """Whether `log_prob` is exact: no index, and every log-determinant in closed form."""
        return not self.indexed and all(step.bijection.exact_log_det for step in self.steps)

    # --- log-weights --------------------------------------------------------------------------------------------------

    def forward(self, x: Tensor, importance_samples: int = 1) -> Tensor:
        """`log_w`, under the name by which wrappers for precision and parallelism call a module."""
        return self.log_w(x, importance_samples)

    def log_w(self, x: Tensor, importance_samples: int = 1) -> Tensor:
        """log w(x, u) for `importance_samples` draws of u ~ q a datum: (importance_samples, batch).

        A plain flow needs no u: all its rows are the same log p(x).
        """
        self.prepare()
        if self.training and self._compiled is not None:
            return self._compiled(x, importance_samples)
        return self._weights(x, importance_samples)

    def compile_training(self) -> None:
        """Compile the log-weights of a training batch with `torch.compile`; evaluation stays as it is."""
        self._compiled = torch.compile(self._weights, dynamic=False)

    def _weights(self, x: Tensor, m: int) -> Tensor:
        return self._finish(self._start(x), m)

    def _start(self, x: Tensor) -> _Start:
        """Run x inward until the first index: all that need not be repeated for each importance sample."""
        z, log_w = x, x.new_zeros(len(x))
        for depth, step in enumerate(self.steps):
            below, log_det = step.bijection(z)
            log_w = log_w + log_det
            if step.index is not None:
                return _Start(depth, below, log_w, step.index.q(z, below))
            z = below
        return _Start(len(self.steps), z, log_w + _standard_normal(z), None)

    def _finish(self, start: _Start, m: int) -> Tensor:
        """Draw u for the first index and go on to z_0: (m, batch)."""
        if start.q is None:
            return start.log_w.expand(m, -1)
        below, log_w = repeat(start.z, m), repeat(start.log_w, m)
        u, log_q = start.q.draw(m)
        for depth in range(start.depth, len(self.steps)):
            step = self.steps[depth]
            if depth > start.depth:
                above = below
                below, log_det = step.bijection(above)
                log_w = log_w + log_det
                if step.index is not None:
                    u, log_q = step.index.q(above, below).draw()
            if step.index is not None:
                below, log_det = step.index(below, u)
                log_w = log_w + log_det + (step.index.p(below).log_prob(u) - log_q)
        return (log_w + _standard_normal(below)).unflatten(0, (m, -1))

    def log_w_chunks(self, x: Tensor, importance_samples: int, chunk_size: int) -> Iterator[Tensor]:
        """`log_w` in pieces (k, batch), k · batch at most about `chunk_size`; what x alone gives is computed once."""
        self.prepare()
        start = self._start(x)
        k = max(1, chunk_size // max(1, len(x)))
        for done in range(0, importance_samples, k):
            yield self._finish(start, min(k, importance_samples - done))

    def estimate(self, x: Tensor, importance_samples: int = 100, chunk_size: int = 10_000) -> Estimate:
        """Log-likelihood, ELBO and effective sample size of each datum, streamed over data and importance samples.

        Memory depends on `chunk_size` = (data × importance samples at once), not on `importance_samples`. A plain flow
        is evaluated once.
        """
        m = importance_samples if self.indexed else 1
        rows = min(max(1, len(x)), chunk_size)
        return Estimate.concatenate([accumulate(self.log_w_chunks(batch, m, chunk_size)) for batch in x.split(rows)])

    def log_prob(self, x: Tensor, importance_samples: int = 100, chunk_size: int = 10_000) -> Tensor:
        """log p(x) in nats, (batch,): exact for a plain flow, else the estimate IWAE_m, a lower bound in expectation.

        Arguments:
            x: (batch, *shape).
            importance_samples: m; ignored by a plain flow.
            chunk_size: data × importance samples evaluated at once.
        """
        return self.estimate(x, importance_samples, chunk_size).log_likelihood

    def elbo(self, x: Tensor, importance_samples: int = 1, chunk_size: int = 10_000) -> Tensor:
        """E_q[log w] ≤ log p(x) in nats, (batch,), by a mean over `importance_samples` draws of u."""
        return self.estimate(x, importance_samples, chunk_size).elbo

    # --- samples ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, n: int, seed: int | None = None, chunk_size: int = 10_000) -> Tensor:
        """n independent draws of x, (n, *shape): z_0 ~ N(0, I), u_l ~ p_l(· | z_{l−1}), z_l = F_l(z_{l−1}; u_l).

        Arguments:
            seed: Makes the draws reproducible, and leaves the global random state alone; None draws from that state.
            chunk_size: Draws made at once.

        Errors:
            ConvergenceError: an iterative inverse missed its tolerance.
        """
        if seed is not None:
            with forked(seed):
                return self.sample(n, None, chunk_size)
        self.prepare()
        like = next(self.parameters(), torch.empty(0))
        chunks = []
        for done in range(0, n, chunk_size):
            size = (min(chunk_size, n - done), *self.latent_shape)
            chunks.append(self.generate(torch.randn(size, dtype=like.dtype, device=like.device)))
        return torch.cat(chunks) if chunks else torch.empty((0, *self.shape), dtype=like.dtype, device=like.device)

    def generate(self, z: Tensor) -> Tensor:
        """x from z_0 (batch, *latent_shape), with u_l drawn from p_l on the way."""
        for step in reversed(self.steps):
            if step.index is not None:
                z = step.index.inverse(z, step.index.p(z).sample())
            z = step.bijection.inverse(z)
        return z

    # --- upkeep -------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Bring what modules derive from their weights (spectral norms) up to date, all of one kind together.

        A module takes part by having a static method `prepare_all(modules)`.
        """
        kinds: dict[Any, list[nn.Module]] = defaultdict(list)
        for module in self.modules():
            if hasattr(module, "prepare_all"):
                kinds[type(module)].append(module)
        for kind, modules in kinds.items():
            kind.prepare_all(modules)

    def inverse_residual(self) -> float | None:
        """The largest residual that iterative inverses left in the last `sample`; None if all are closed-form."""
        maps = (module for module in self.modules() if isinstance(module, Bijection | Index))
        residuals = [r for m in maps if (r := getattr(m, "inverse_residual", None)) is not None]
        return max(residuals, default=None)

    def statistics(self) -> dict[str, float]:
        """What the bijections tell of their last use, by name; a name that several of them tell is added up."""
        total: dict[str, float] = defaultdict(float)
        for module in self.modules():
            if isinstance(module, Bijection):
                for name, value in module.statistics().items():
                    total[name] += value
        return dict(total)


def _standard_normal(z: Tensor) -> Tensor:
    return (-0.5 * z * z).flatten(1).sum(1) - LOG_SQRT_2PI * math.prod(z.shape[1:])
