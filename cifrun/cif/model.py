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

from ..bijections.base import Bijection
from ..compute.rng import forked
from .importance import Estimate, accumulate
from .index import LOG_SQRT_2PI, DiagonalGaussian, Index, repeat

__all__ = ["Model", "Start", "Step", "standard_normal"]

#: How many kinds of steps of one model may be compiled; beyond, training stops with an error of the compiler.
MOST_KINDS = 64


class Step(nn.Module):
    """One step of a model: f_l⁻¹, and the index that follows it, or none."""

    def __init__(self, bijection: Bijection, index: Index | None = None) -> None:
        super().__init__()
        self.bijection = bijection
        self.index = index
        self._compiled: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z_l ↦ z_{l−1}, with u_l ~ q_l, and this step's term of log w, (batch,)."""
        below, log_det = self.bijection(z)
        if self.index is None:
            return below, log_det
        below, term = _draw(self.index, below, self.index.q(z, below), 1)
        return below, log_det + term

    def inward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """`forward`, compiled if this is training and was asked for."""
        return self(z) if self._compiled is None or not self.training else self._compiled(z)

    def compile_training(self) -> None:
        """From now on, compile what `inward` does in training; evaluation, with its other shapes, stays as it is.

        Steps of one kind share what is compiled for the first of them. The random numbers are the same as without.
        """
        if self.bijection.indexable and self.bijection.compilable:
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_KINDS)
            options: dict[str, Any] = {"fallback_random": True}
            self._compiled = torch.compile(self.forward, fullgraph=True, dynamic=False, options=options)


class Start(NamedTuple):
    """How far x alone determines log w: the state just before the first u is drawn."""

    depth: int  # the position of the first step that draws something
    z: Tensor  # f⁻¹(…) there, (batch, *shape)
    log_w: Tensor  # what has been added so far, (batch,)
    u: tuple[Index, DiagonalGaussian] | None  # the first index and its q(u | z_l), if it is an index that draws


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
        self.levels: int | None = None  # of images: a pixel of a run's data was one of 0 … levels − 1
        self._prepared: dict[Any, list[nn.Module]] = defaultdict(list)  # by type, what `prepare` looks after
        for module in self.modules():
            if hasattr(module, "prepare_all"):
                self._prepared[type(module)].append(module)

    @property
    def indexed(self) -> bool:
        """Whether any step draws a u or a z; then log-likelihoods are IWAE estimates, else log w is log p(x)."""
        return any(step.index is not None or step.bijection.stochastic for step in self.steps)

    @property
    def exact(self) -> bool:
        """Whether `log_prob` is exact: no index, and every log-determinant in closed form."""
        return not self.indexed and all(step.bijection.exact_log_det for step in self.steps)

    # --- log-weights --------------------------------------------------------------------------------------------------

    def forward(self, x: Tensor, importance_samples: int = 1, prepare: bool = True) -> Tensor:
        """`log_w`, under the name by which wrappers for precision and parallelism call a module."""
        return self.log_w(x, importance_samples, prepare)

    def log_w(self, x: Tensor, importance_samples: int = 1, prepare: bool = True) -> Tensor:
        """log w(x, u) for `importance_samples` draws of u ~ q a datum: (importance_samples, batch).

        A plain flow needs no u: all its rows are the same log p(x). With `prepare=False` what is derived from the
        weights is taken as the last call left it.
        """
        if prepare:
            self.prepare()
        if importance_samples == 1:
            return self._run(x, x.new_zeros(len(x)), 0)[None]
        return self.finish(self.start(x), importance_samples)

    def compile_training(self) -> None:
        """Compile each step with `torch.compile`, for training; evaluation stays as it is."""
        for step in self.steps:
            step.compile_training()

    def _run(self, z: Tensor, log_w: Tensor, depth: int) -> Tensor:
        """From z and the log w so far, before the step at `depth`, to z_0: log w, (batch,)."""
        for step in list(self.steps)[depth:]:
            z, term = step.inward(z)
            log_w = log_w + term
        return log_w + standard_normal(z)

    def start(self, x: Tensor) -> Start:
        """Run x inward until the first index: all that need not be repeated for each importance sample."""
        z, log_w = x, x.new_zeros(len(x))
        for depth, step in enumerate(self.steps):
            if step.bijection.stochastic:
                return Start(depth, z, log_w, None)
            below, log_det = step.bijection(z)
            log_w = log_w + log_det
            if step.index is not None:
                return Start(depth, below, log_w, (step.index, step.index.q(z, below)))
            z = below
        return Start(len(self.steps), z, log_w + standard_normal(z), None)

    def finish(self, start: Start, m: int) -> Tensor:
        """Draw u for the first index and go on to z_0: (m, batch)."""
        if start.depth == len(self.steps):
            return start.log_w.expand(m, -1)
        if start.u is None:
            return self._run(repeat(start.z, m), repeat(start.log_w, m), start.depth).unflatten(0, (m, -1))
        index, q = start.u
        z, term = _draw(index, start.z, q, m)
        return self._run(z, repeat(start.log_w, m) + term, start.depth + 1).unflatten(0, (m, -1))

    def log_w_chunks(self, x: Tensor, importance_samples: int, chunk_size: int) -> Iterator[Tensor]:
        """`log_w` in pieces (k, batch), k · batch at most about `chunk_size`; what x alone gives is computed once."""
        self.prepare()
        start = self.start(x)
        k = max(1, chunk_size // max(1, len(x)))
        for done in range(0, importance_samples, k):
            yield self.finish(start, min(k, importance_samples - done))

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

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """F(F⁻¹(x; u); u), (batch, *shape), with u ~ q(· | x): x again, but for what inverses lose.

        Errors:
            ConvergenceError: an iterative inverse missed its tolerance.
        """
        self.prepare()
        drawn: list[Tensor | None] = []
        for step in self.steps:
            below, _ = step.bijection(x)
            u = None if step.index is None else step.index.q(x, below).sample()
            x = below if step.index is None or u is None else step.index(below, u)[0]
            drawn.append(u)
        for step, u in zip(reversed(self.steps), reversed(drawn), strict=True):
            x = step.bijection.inverse(x if step.index is None or u is None else step.index.inverse(x, u))
        return x

    # --- upkeep -------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Bring what modules derive from their weights (spectral norms) up to date, all of one kind together.

        A module takes part by having a static method `prepare_all(modules)`.
        """
        for kind, modules in self._prepared.items():
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


def _draw(index: Index, below: Tensor, q: DiagonalGaussian, m: int) -> tuple[Tensor, Tensor]:
    """From f_l⁻¹(z_l) and q_l, m times over: z_{l−1}, and log p_l + log|det| − log q_l of its u, (m · batch,)."""
    u, log_q = q.draw(m)
    below, log_det = index(repeat(below, m), u)
    return below, log_det + index.p(below).log_prob(u) - log_q


def standard_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) of each row, (batch,), in nats."""
    return (-0.5 * z * z).flatten(1).sum(1) - LOG_SQRT_2PI * math.prod(z.shape[1:])
