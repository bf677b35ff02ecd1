"""One step of a model: a bijection f_l and, in a CIF, the index that makes it a family F_l(·; u).

inward     z_{l−1} = F_l⁻¹(z_l; u_l),   u_l ~ q_l(u_l | z_l),   with this step's term of log w:
           log|det ∂z_{l−1}/∂z_l| + log p_l(u_l | z_{l−1}) − log q_l(u_l | z_l)
outward    z_l = F_l(z_{l−1}; u_l),     u_l ~ p_l(u_l | z_{l−1})
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from ..bijections.base import Bijection
from . import by_hand
from .gaussian import DiagonalGaussian
from .index import Index

__all__ = ["ChooseU", "Inward", "Outward", "Start", "Step"]

#: How many kinds of steps of one model may be compiled; beyond, training stops with an error of the compiler.
MOST_KINDS = 64

#: Which u to take on the way inward: None draws it from q, a function reads it from q, else one is given for each step.
ChooseU: TypeAlias = Sequence[Tensor | None] | Callable[[DiagonalGaussian], Tensor] | None


class Inward(NamedTuple):
    """What a step makes of z_l on the way to the prior. In training, a step may say `z` and `log_w` alone.

    Attributes:
        z: z_{l−1}, (batch, …).
        log_w: This step's term of log w, in nats, (batch,).
        log_dets: Its parts that are log-determinants: of f_l⁻¹, and of what the index does; each (batch,).
        u: u_l, (batch, …), if the step has an index.
        q: q(u_l | z_l), if the step has an index.
    """

    z: Tensor
    log_w: Tensor
    log_dets: tuple[Tensor, ...] = ()
    u: Tensor | None = None
    q: DiagonalGaussian | None = None


class Outward(NamedTuple):
    """What a step makes of z_{l−1} on the way to the data.

    Attributes:
        z: z_l, (batch, …).
        before: z_{l−1}, (batch, …).
        u: u_l, (batch, …), if the step has an index.
    """

    z: Tensor
    before: Tensor
    u: Tensor | None = None


class Start(NamedTuple):
    """How far x alone determines log w: the state just before the first u is drawn.

    Attributes:
        depth: Position of the first step that draws something; the number of steps if none does.
        z: What has become of x there, (batch, …): f⁻¹(z_l) where that step has an index, z_l otherwise.
        log_w: The terms so far, (batch,).
        q: q(u_l | z_l) of that step's index; None if it has none.
    """

    depth: int
    z: Tensor
    log_w: Tensor
    q: DiagonalGaussian | None


class Step(nn.Module):
    """f_l⁻¹, and the index that follows it, or none."""

    def __init__(self, bijection: Bijection, index: Index | None = None) -> None:
        super().__init__()
        self.bijection = bijection
        self.index = index
        self._compiled: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    @property
    def draws(self) -> bool:
        """Whether the way inward draws random numbers: a u, or what a stochastic map returns."""
        return self.index is not None or self.bijection.stochastic

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z_l ↦ z_{l−1}, with u_l ~ q_l, and this step's term of log w, (batch,): what may be compiled."""
        moved = self._inward(z, None)
        return moved.z, moved.log_w

    def inward(self, z: Tensor, u: Tensor | Callable[[DiagonalGaussian], Tensor] | None = None) -> Inward:
        """z_l ↦ z_{l−1} with u_l as given, as a function reads it from q_l, or drawn from q_l if there is neither."""
        plain = self.index is None or self.index.gradient is None
        if self._compiled is not None and self.training and u is None and plain:
            return Inward(*self._compiled(z))
        return self._inward(z, u)

    def _inward(self, z: Tensor, u: Tensor | Callable[[DiagonalGaussian], Tensor] | None) -> Inward:
        below, log_det = self.bijection(z)
        if self.index is None:
            return Inward(below, log_det, (log_det,))
        by_itself = u is None and self.training and torch.is_grad_enabled()  # nobody asks for u
        at_once = by_hand.inward(self.index, z, below) if by_itself else None
        if at_once is not None:
            return Inward(at_once[0], log_det + at_once[1])
        q = self.index.q(z, below)
        if u is None:
            u, log_q = q.draw()
        else:
            u = u if isinstance(u, Tensor) else u(q)
            log_q = q.log_prob(u)
        after = self.after_u(below, u, log_q)
        return Inward(after.z, log_det + after.log_w, (log_det, *after.log_dets), u, q)

    def after_u(self, below: Tensor, u: Tensor, log_q: Tensor) -> Inward:
        """What the index makes of f_l⁻¹(z_l) with a u that is drawn: z_{l−1}, and the terms that depend on u.

        Arguments:
            below: f_l⁻¹(z_l), (batch, …).
            u: (batch, …).
            log_q: log q(u | z_l), in nats, (batch,).
        """
        if self.index is None:
            raise TypeError("a step without an index draws no u")
        z, log_det, log_p = self.index.weigh(below, u)
        return Inward(z, log_det + log_p - log_q, (log_det,), u)

    def before_u(self, z: Tensor) -> tuple[Tensor, Tensor, DiagonalGaussian | None]:
        """What z_l alone determines: f_l⁻¹(z_l), its log-determinant (batch,), and q(u_l | z_l) of the index."""
        below, log_det = self.bijection(z)
        return below, log_det, None if self.index is None else self.index.q(z, below)

    def outward(self, z: Tensor, u: Tensor | None = None) -> Outward:
        """z_{l−1} ↦ z_l, with u_l ~ p(u | z_{l−1}) unless it is given.

        Raises:
            ConvergenceError: An iterative inverse missed its tolerance.
        """
        if self.index is None:
            return Outward(self.bijection.inverse(z), z, u)
        u = self.index.p(z).sample() if u is None else u
        return Outward(self.bijection.inverse(self.index.inverse(z, u)), z, u)

    def compile_training(self) -> None:
        """From now on, compile what `inward` does in training; evaluation, with its other shapes, stays as it is.

        Steps of one kind share what is compiled for the first of them. The random numbers are the same as without. An
        index whose gradient is not the plain one (`gradients`) is not compiled, nor is its step.
        """
        if self.bijection.indexable and self.bijection.compilable:
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_KINDS)
            options: dict[str, Any] = {"fallback_random": True}
            self._compiled = torch.compile(self.forward, fullgraph=True, dynamic=False, options=options)
