"""The density: a flat list of steps from the data inward, each a bijection and, in a CIF, its index.

    log w(x, u) = log p_0(z_0) + Σ_l [ log p_l(u_l | z_{l−1}) + log|det ∂F_l⁻¹(z_l; u_l)/∂z_l| − log q_l(u_l | z_l) ]

One class serves plain flows (no step has an index: log w is log p(x)), CIFs and Gaussian VAEs (f = identity). Its steps
are walked in two ways, each written once: `Model.inward`, from x to z_0, and `Model.outward`, from z_0 to x. Training,
evaluation, sampling, diagnostics and pictures take what they need of what these say of each step.

Reference: Cornish, Caterini, Deligiannidis, Doucet, "Relaxing bijectivity constraints with continuously indexed
normalising flows", ICML 2020 (https://arxiv.org/abs/1909.13833).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import groupby
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ..bijections.base import Bijection
from ..bijections.preprocess.standardize import precision_of
from ..compute import rng
from ..compute.memory import COPIES, IN_A_PASS, check_room
from ..compute.rng import derive, forked, seeding
from ..nets.derived_weights import Watch
from .base_density import BaseDensity, StandardNormal
from .gaussian import repeat
from .gradients import Gradient
from .importance import ROWS, Estimate, Piece, Weights, accumulate, pieces
from .index import Index
from .step import ChooseU, Inward, Outward, Start, Step

__all__ = ["Model"]


class Model(nn.Module):
    """A density over events of one shape.

    Arguments:
        steps: From the data (f_L) inward (f_1).
        base: p_0; None for N(0, I).

    Shapes: x is (batch, *shape); every log-density is (batch,), in nats.
    """

    def __init__(self, steps: Sequence[Step], base: BaseDensity | None = None) -> None:
        super().__init__()
        self.steps: Sequence[Step] = nn.ModuleList(steps)  # type: ignore[assignment]
        self.shape = steps[0].bijection.shape
        self.latent_shape = steps[-1].bijection.latent_shape
        self.base = StandardNormal(self.latent_shape) if base is None else base
        self.columns: tuple[str, ...] = ()  # names of the coordinates, where a run's data had them
        self.levels: int | None = None  # of images: a pixel of a run's data was one of 0 … levels − 1
        self._prepared: dict[Any, list[nn.Module]] = defaultdict(list)  # by type, what `prepare` looks after
        for module in self.modules():
            if hasattr(module, "prepare_all"):
                self._prepared[type(module)].append(module)
        self._watch = Watch(self.modules())

    @property
    def indexed(self) -> bool:
        """Whether any step draws a u or a z; then log-likelihoods are IWAE estimates, else log w is log p(x)."""
        return any(step.draws for step in self.steps)

    @property
    def indices(self) -> list[Index]:
        """Those of the steps that have one, from the data inward."""
        return [step.index for step in self.steps if step.index is not None]

    @property
    def exact(self) -> bool:
        """Whether `log_prob` is exact: no index, and every log-determinant in closed form."""
        return not self.indexed and all(step.bijection.exact_log_det for step in self.steps)

    @property
    def noisy(self) -> bool:
        """Whether log w, in the mode that the model is in, has an unbiased estimate of a log-determinant in it."""
        maps = (step.bijection for step in self.steps if not step.bijection.stochastic)
        return not all(f.exact_in_training if self.training else f.exact_log_det for f in maps)

    @property
    def takes(self) -> Tensor:
        """An empty tensor on the model's device, of the precision in which it takes x: that of its weights, or double
        where the first step centres numbers that single precision can't tell apart.
        """
        like = next(self.parameters(), torch.empty(0))
        return torch.empty(0, dtype=precision_of(self.steps[0].bijection, like.dtype), device=like.device)

    # --- the two ways through the steps -------------------------------------------------------------------------------

    def inward(self, x: Tensor, u: ChooseU = None, start: int = 0, stop: int | None = None) -> Iterator[Inward]:
        """What each step makes of x on its way to z_0: z_{l−1}, its term of log w, u_l.

        Arguments:
            x: (batch, *shape); with `start`, z_l before that step.
            u: One for each step, None for those without an index; or how to get u from q; None draws u ~ q.
            start, stop: The positions of the first step and of the one after the last.
        """
        for position, step in enumerate(self.steps[start:stop], start):
            moved = step.inward(x, u[position] if isinstance(u, Sequence) else u)
            yield moved
            x = moved.z

    def outward(self, z: Tensor, u: Sequence[Tensor | None] | None = None) -> Iterator[Outward]:
        """What each step, from the last to the first, makes of z_0 on its way to x: z_l and u_l.

        Arguments:
            z: (batch, *latent_shape).
            u: One for each step, counted from the data; None draws u_l ~ p(u | z_{l−1}).

        Raises:
            ConvergenceError: an iterative inverse missed its tolerance.
        """
        for position in reversed(range(len(self.steps))):
            moved = self.steps[position].outward(z, None if u is None else u[position])
            yield moved
            z = moved.z

    # --- log-weights --------------------------------------------------------------------------------------------------

    def forward(
        self, x: Tensor, importance_samples: int = 1, prepare: bool = True, gradient: Gradient | None = None
    ) -> Tensor:
        """`log_w`, under the name by which wrappers for precision and parallelism call a module.

        Arguments:
            gradient: How the gradient is estimated; None for plain reparametrisation.
        """
        gradient = gradient or Gradient()
        with gradient.inside(self.indices):
            return gradient.of(self.log_w(x, importance_samples, prepare))

    def log_w(self, x: Tensor, importance_samples: int = 1, prepare: bool = True) -> Tensor:
        """log w(x, u) for `importance_samples` draws of u ~ q for each datum: (importance_samples, batch).

        A plain flow needs no u: all its rows are the same log p(x). With `prepare=False` what is derived from the
        weights is taken as the last call left it.
        """
        if self.indexed:
            check_room(IN_A_PASS * importance_samples * x.numel(), f"{importance_samples} draws of u a datum")
        if prepare:
            self.prepare()
        if importance_samples == 1:
            return self._add_up(x, x.new_zeros(len(x)))[None]
        with rng.probing(len(x)):
            return self.finish(self.start(x), importance_samples)

    def compile_training(self) -> None:
        """Compile each step with `torch.compile`, for training; evaluation stays as it is."""
        for step in self.steps:
            step.compile_training()

    def _add_up(self, z: Tensor, log_w: Tensor, start: int = 0) -> Tensor:
        """The log w so far, (batch,), with the terms of the steps from `start` on and of the prior."""
        for moved in self.inward(z, start=start):
            z, log_w = moved.z, log_w + moved.log_w
        return log_w + self.base.log_prob(z)

    def start(self, x: Tensor) -> Start:
        """Run x inward until the first index: all that need not be repeated for each importance sample."""
        depth = next((k for k, step in enumerate(self.steps) if step.draws), len(self.steps))
        z, log_w = x, x.new_zeros(len(x))
        for moved in self.inward(x, stop=depth):
            z, log_w = moved.z, log_w + moved.log_w
        if depth == len(self.steps):
            return Start(depth, z, log_w + self.base.log_prob(z), None)
        if self.steps[depth].index is None:
            return Start(depth, z, log_w, None)
        below, log_det, q = self.steps[depth].before_u(z)
        return Start(depth, below, log_w + log_det, q)

    def finish(self, start: Start, m: int) -> Tensor:
        """Draw u for the first index and go on to z_0: (m, batch)."""
        if start.depth == len(self.steps):
            return start.log_w.expand(m, -1)
        z, log_w, depth = repeat(start.z, m), repeat(start.log_w, m), start.depth
        if start.q is not None:
            moved = self.steps[depth].after_u(z, *start.q.draw(m))
            z, log_w, depth = moved.z, log_w + moved.log_w, depth + 1
        return self._add_up(z, log_w, depth).unflatten(0, (m, -1))

    def log_weights(
        self,
        events: Callable[[slice], Tensor],
        work: Iterable[Piece],
        seed: Callable[..., object] = lambda *place: None,
        twice: bool = True,
    ) -> Iterator[Weights]:
        """Each piece with its log w, (importance samples, data); what x alone gives is computed once a block.

        Where the log-determinants of a CIF are estimated, it has them twice: with the same u, and independent noise
        that all importance samples of a datum share (see `importance`).

        Arguments:
            events: The data of a block, (rows, *shape).
            work: In order of the blocks, as `importance.pieces` gives it.
            seed: Called with (block,) before a block is begun and with (block, chunk + 1) before a piece is.
            twice: False where one estimate is enough, as it is for m = 1.
        """
        self.prepare()
        for block, group in groupby(work, key=lambda piece: piece.block):
            noises: list[int] = []
            starts: list[Start] = []
            for piece in group:
                if not starts:
                    x = events(piece.rows)
                    draws = piece.importance_samples
                    check_room(IN_A_PASS * draws * x.numel(), f"{draws} draws of u a datum")
                    seed(block)
                    if self.noisy and self.indexed:
                        base = int(torch.randint(2**62, ()))
                        noises = [derive(base, k) for k in ((1, 2) if twice else (1,))]
                    starts = rng.under([partial(self.start, x)] * max(1, len(noises)), noises, len(x))
                seed(block, piece.chunk + 1)
                ways = [partial(self.finish, start, piece.importance_samples) for start in starts]
                yield Weights(piece, *rng.under(ways, [derive(noise, 1) for noise in noises], len(x)))

    def estimate(
        self, x: Tensor, importance_samples: int = 100, chunk_size: int = 10_000, seed: int | None = None
    ) -> Estimate:
        """Log-likelihood, ELBO and effective sample size of each datum, streamed over data and importance samples.

        Memory depends on `chunk_size` = (data × importance samples at once), not on `importance_samples`. A plain flow
        is evaluated once. With a `seed`, the random numbers are those of `cifrun eval` with that `eval.seed`, and the
        global random state stays as it is.
        """
        m = importance_samples if self.indexed else 1
        rows = min(max(1, len(x)) if seed is None else ROWS, chunk_size)
        work = pieces(len(x), m, rows, chunk_size)
        with nullcontext() if seed is None else forked(seed):
            sums = accumulate(self.log_weights(lambda rows: x[rows], work, seeding(seed), m > 1))
        return Estimate.concatenate([part.estimate(m) for part in sums.values()])

    def log_prob(
        self, x: Tensor, importance_samples: int = 100, chunk_size: int = 10_000, seed: int | None = None
    ) -> Tensor:
        """log p(x) in nats, (batch,): exact for a plain flow, else the estimate IWAE_m, a lower bound in expectation.

        Arguments:
            x: (batch, *shape).
            importance_samples: m; ignored by a plain flow.
            chunk_size: data × importance samples evaluated at once.
            seed: Makes the estimate reproducible (see `estimate`); None draws from the global random state.
        """
        return self.estimate(x, importance_samples, chunk_size, seed).log_likelihood

    def elbo(self, x: Tensor, importance_samples: int = 1, chunk_size: int = 10_000) -> Tensor:
        """E_q[log w] ≤ log p(x) in nats, (batch,), by a mean over `importance_samples` draws of u."""
        return self.estimate(x, importance_samples, chunk_size).elbo

    # --- samples ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, n: int, seed: int | None = None, chunk_size: int = 10_000) -> Tensor:
        """n independent draws of x, (n, *shape): z_0 ~ p_0, u_l ~ p_l(· | z_{l−1}), z_l = F_l(z_{l−1}; u_l).

        Arguments:
            n: How many.
            seed: Makes the draws reproducible, and leaves the global random state alone; None draws from that state.
            chunk_size: Draws made at once.

        Raises:
            ConvergenceError: an iterative inverse missed its tolerance.
        """
        if seed is not None:
            with forked(seed):
                return self.sample(n, None, chunk_size)
        like = next(self.parameters(), torch.empty(0))
        check_room(COPIES * n * prod(self.shape), f"n = {n} samples", like.element_size())
        self.prepare()
        chunks = [torch.empty((0, *self.shape), dtype=like.dtype, device=like.device)]
        for done in range(0, n, chunk_size):
            chunks.append(self.generate(self.base.draw(min(chunk_size, n - done), like)))
        return torch.cat(chunks)

    def rsample(self, n: int, seed: int | None = None) -> Tensor:
        """n draws as `sample` makes them, (n, *shape), that can be differentiated once in the weights.

        The noise of z_0 and of each u_l is held fixed (the reparametrisation trick); iterative inverses are
        differentiated by the implicit function theorem.

        Arguments:
            n: How many.
            seed: As of `sample`.

        Raises:
            ConvergenceError: an iterative inverse missed its tolerance.
            NotImplementedError: what is drawn has no derivative, as of a mixture, or of pixels that are 0 or 1.
        """
        if not self.base.reparametrised:
            raise NotImplementedError("draws of this base density have no derivative in its weights: use sample")
        if any(step.bijection.stochastic for step in self.steps):
            raise NotImplementedError("this model draws discrete numbers, which have no derivative: use sample")
        like = next(self.parameters(), torch.empty(0))
        check_room(IN_A_PASS * n * prod(self.shape), f"n = {n} samples", like.element_size())
        self.prepare()
        with nullcontext() if seed is None else forked(seed):
            return self.generate(self.base.draw(n, like))

    def rsample_and_log_prob(
        self, n: int, importance_samples: int = 100, seed: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """`rsample`, (n, *shape), and `log_prob` of the draws, (n,), in nats; both can be differentiated.

        Arguments and errors as of these two; a plain flow, whose log-density is exact, takes no importance samples.
        """
        x = self.rsample(n, seed)
        return x, self.log_prob(x, importance_samples, seed=None if seed is None else derive(seed, 1))

    def generate(self, z: Tensor, u: Sequence[Tensor | None] | None = None) -> Tensor:
        """x = F(z_0; u), (batch, *shape), from z_0 (batch, *latent_shape); arguments and errors as of `outward`."""
        for moved in self.outward(z, u):
            z = moved.z
        return z

    # --- upkeep -------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Bring what modules derive from their weights (spectral norms) up to date, all of one kind together.

        A module takes part by having a static method `prepare_all(modules)`.
        """
        if not (self.training and torch.is_grad_enabled()):
            self._watch.forget_if_overwritten()
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
