"""Estimators of the gradient of a bound: unbiased as the plain one is, and of less variance.

θ are the weights of p and of the maps, φ those of the networks of q. With ε the noise of u = u(ε; θ, φ),

    q(u | x) = Π_l q_l(u_l | z_l),     z_{l−1} = F_l⁻¹(z_l; u_l),     w̃_i = w_i / Σ_j w_j

φ enters log w in two ways: through each u_l, and as what log q_l(u_l | z_l) is a function of. The *path derivative* ∂̂φ
is that of log w through all u_l, along every way from there: so also through the z_l that later q_l look at. What it
leaves out is the score ∂φ log q_l at u_l and z_l held fixed, whose mean is zero given z_l. Where q is the posterior,
log w does not depend on u, and the path derivative is zero for each draw.

    reparametrised           φ:  Σ_i c_i dlog w_i/dφ                    what autograd gives, for a bound with slopes c_i
    path derivative          φ:  (1/m) Σ_i ∂̂φ log w_i                   of the ELBO ("sticking the landing")
    doubly reparametrised    φ:  Σ_i w̃_i² ∂̂φ log w_i                    of IWAE_m
    wake                     φ:  Σ_i w̃_i ∂φ log q(u_i | x)              u fixed: lowers KL(p(u | x) ‖ q), not KL(q ‖ p)
    wake, doubly reparam.    φ:  Σ_i (w̃_i − w̃_i²) ∂̂φ log w_i            of the same mean

θ has its total derivative, Σ_i c_i dlog w_i/dθ, in the first three: also where q shares θ, by looking at p or at z_l.
In the wake steps it has Σ_i w̃_i ∂θ log p(x, u_i), u fixed and q left alone.

To tell these ways apart the network of q is run twice, for the same numbers: once with z_l held fixed, so that φ alone
is behind them, and once with φ held fixed. A factor w̃_i then enters where φ does, once, however many steps the
gradient has come through. The way through the steps is the same for all.

References: Roeder, Wu, Duvenaud, "Sticking the landing: simple, lower-variance gradient estimators for variational
inference", NeurIPS 2017 (https://arxiv.org/abs/1703.09194); Tucker, Lawson, Gu, Maddison, "Doubly reparameterized
gradient estimators for Monte Carlo objectives", ICLR 2019 (https://arxiv.org/abs/1810.04152); Bornschein, Bengio,
"Reweighted wake-sleep", ICLR 2015 (https://arxiv.org/abs/1406.2751).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .gaussian import DiagonalGaussian

__all__ = ["DoublyReparametrised", "Gradient", "PathDerivative", "Wake", "WakeDoublyReparametrised", "held_fixed"]


class Gradient:
    """The plain estimator, by reparametrisation: everything is differentiated. Others derive from it.

    An instance is for one pass through a model: the log-weights are drawn inside `inside`, and then given to `of`.
    """

    #: Whether every number that is drawn must be the u of an index.
    indices_alone = False

    @contextmanager
    def inside(self, indices: Iterable[Indexed]) -> Iterator[None]:
        """Inside, the indices of a model draw u as the estimator wants it."""
        yield

    def of(self, log_w: Tensor) -> Tensor:
        """The same log-weights, (m, batch), in nats; the gradient of an objective of them is the estimate."""
        return log_w


class Divided(Gradient, ABC):
    """An estimator that treats what comes through φ by itself."""

    @contextmanager
    def inside(self, indices: Iterable[Indexed]) -> Iterator[None]:
        indices = list(indices)
        for index in indices:
            index.gradient = self
        try:
            yield
        finally:
            for index in indices:
                index.gradient = None

    def q(self, held: Callable[[], DiagonalGaussian], live: Callable[[], DiagonalGaussian]) -> DiagonalGaussian:
        """q(u_l | z_l), whose `draw` is this estimator's.

        Arguments:
            held: Gives it with φ held fixed.
            live: Gives it with all but φ held fixed: the same numbers.
        """
        q = _Divided(*held())
        q.live, q.gradient = live(), self
        return q

    @abstractmethod
    def draw(self, q: _Divided, count: int) -> tuple[Tensor, Tensor]:
        """`count` draws a row, (count · batch, dim), and log q of each, (count · batch,); see `DiagonalGaussian`."""


class Indexed(Protocol):
    """What a `Divided` needs of an index: a place to say that it is at work."""

    gradient: Divided | None


class _Divided(DiagonalGaussian):
    """q(u | z) as an estimator takes it apart; its own numbers are those with φ held fixed."""

    live: DiagonalGaussian
    gradient: Divided

    def draw(self, count: int = 1) -> tuple[Tensor, Tensor]:
        return self.gradient.draw(self, count)


class PathDerivative(Divided):
    """φ: the path derivative of log w, for a mean over draws ("sticking the landing")."""

    def draw(self, q: _Divided, count: int) -> tuple[Tensor, Tensor]:
        noise = q.noise(count).flatten(0, 1)
        held, live = q.repeated(count), q.live.repeated(count)
        mean, log_std = (h + _no_number(self._enter(x)) for h, x in zip(held, live, strict=True))
        u = self._leave(torch.addcmul(mean, torch.exp(log_std), noise))
        return u, self._leave(held.log_prob(u))

    def _enter(self, live: Tensor) -> Tensor:
        """What φ gives, (count · batch, dim), on its way to u."""
        return live

    def _leave(self, x: Tensor) -> Tensor:
        """u, or log q, on its way to log w."""
        return x


class DoublyReparametrised(PathDerivative):
    """φ: Σ_i w̃_i² ∂̂φ log w_i, unbiased for IWAE_m."""

    _share: Tensor

    def of(self, log_w: Tensor) -> Tensor:
        self._share = log_w.detach().softmax(0).flatten()
        return log_w

    def _enter(self, live: Tensor) -> Tensor:
        return _Backward.apply(live, lambda grad: grad * self._share.view(-1, *[1] * (grad.dim() - 1)))


class Wake(Divided):
    """Wake steps of reweighted wake-sleep: θ climbs Σ_i w̃_i log p(x, u_i), φ Σ_i w̃_i log q(u_i | x), u fixed."""

    indices_alone = True

    def q(self, held: Callable[[], DiagonalGaussian], live: Callable[[], DiagonalGaussian]) -> DiagonalGaussian:
        q = live()
        return super().q(lambda: q, lambda: q)

    def draw(self, q: _Divided, count: int) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            u, _ = DiagonalGaussian.draw(q, count)
        log_q = q.live.repeated(count).log_prob(u)
        return u, log_q.detach() - _no_number(log_q)  # log w has −log q, which φ climbs all the same


class WakeDoublyReparametrised(PathDerivative):
    """The wake steps, with Σ_i (w̃_i − w̃_i²) ∂̂φ log w_i for φ: of the same mean.

    φ is to have what comes through u, and θ is not. So a first backward pass, in which u is open, stops where φ enters;
    in the second, which the optimiser follows, u is closed. The objective is to be IWAE_m.
    """

    indices_alone = True

    def __init__(self) -> None:
        self._live: list[Tensor] = []
        self._open = False

    def of(self, log_w: Tensor) -> Tensor:
        share, live = log_w.detach().softmax(0), [x for x in self._live if x.requires_grad]
        self._live = []
        if not live:
            return log_w
        self._open = True
        with torch.autocast(log_w.device.type, enabled=False):
            slopes = torch.autograd.grad(log_w, live, share - share.square(), retain_graph=True)
        self._open = False
        climbs = [(_no_number(x) * slope).flatten(1).sum(1) for x, slope in zip(live, slopes, strict=True)]
        # Each of a datum's m draws has the sum over all of them; the objective's slopes in these, w̃, add up to 1.
        return log_w + torch.stack(climbs).sum(0).view_as(log_w).sum(0)

    def _enter(self, live: Tensor) -> Tensor:
        self._live.append(live)
        return live

    def _leave(self, x: Tensor) -> Tensor:
        return _Backward.apply(x, lambda grad: grad if self._open else None)


class _Backward(torch.autograd.Function):
    """x itself; its gradient is what a function makes of it in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Callable[[Tensor], Tensor | None]) -> Tensor:
        ctx.change = change
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
        return ctx.change(grad), None


def _no_number(x: Tensor) -> Tensor:
    """Zeros, with the gradient of x."""
    return x - x.detach()


def held_fixed(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """A network whose parameters get no gradient, while its input does."""
    fixed = {name: parameter.detach() for name, parameter in net.named_parameters()}
    return lambda x: functional_call(net, fixed, (x,))
