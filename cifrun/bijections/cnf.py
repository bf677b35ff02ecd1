"""Continuous normalising flows: the map is the flow of a differential equation.

    dz/dt = f(t, z),   z(0) = x,   z = z(1),        log|det ∂z/∂x| = ∫_0^1 tr ∂f/∂z dt

The trace is exact for few dimensions (for more of them in evaluation), tr J = Σ_i e_iᵀ J e_i, and above that
Hutchinson's unbiased estimate vᵀ J v with random signs v that stay the same over one solve. J is never formed: the
tangents e_i or v are carried forward beside z.

The solver is Dormand and Prince's of order 5(4) with adaptive steps, which the largest error in the batch decides: in
the whole batch, where several processes share it, but in each micro-batch by itself. The gradient is that of the
discrete solution. The inverse is the same equation backwards.

Sources: Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud, "FFJORD", ICLR 2019; Hairer, Nørsett, Wanner, "Solving
ordinary differential equations I", 1993, section II.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..compute.rng import largest_of_batch, random_signs
from ..errors import ConvergenceError
from .base import Bijection

__all__ = ["CNF", "Velocity", "solve_ode"]

#: Up to this many dimensions the trace is exact, at the cost of 1 + D passes through the network.
EXACT_UP_TO = 8
#: In evaluation up to this many.
EXACT_IN_EVALUATION = 32

#: Steps of a solver, accepted or not, after which it gives up.
MAX_STEPS = 1000
#: Stands for an error of a step that is no number, or larger.
HUGE = 1e100

State = tuple[Tensor, ...]


class Velocity(nn.Module):
    """f(t, z): tanh layers, each gated and shifted by the time: (W h + b) ⊙ σ(a t + c) + d t.

    Arguments:
        features: D.
        hidden: Sizes of the hidden layers.
    """

    def __init__(self, features: int, hidden: Sequence[int]) -> None:
        super().__init__()
        sizes = [features, *hidden, features]
        self.linear: Sequence[nn.Linear] = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))  # type: ignore[assignment]
        self.time = nn.ParameterList(torch.randn(3, size) * 0.1 for size in sizes[1:])  # a, c, d of each layer

    def forward(self, t: float, z: Tensor, tangents: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """f(t, z) (batch, D), and J v for each tangent v in (n, batch or 1, D)."""
        h = z
        for i, (layer, time) in enumerate(zip(self.linear, self.time, strict=True)):
            gate = torch.sigmoid(time[0] * t + time[1])
            h = layer(h) * gate + time[2] * t
            if tangents is not None:
                tangents = F.linear(tangents, layer.weight) * gate
            if i < len(self.linear) - 1:
                h = torch.tanh(h)
                if tangents is not None:
                    tangents = tangents * (1 - h * h)
        return h, tangents


class CNF(Bijection):
    """The flow of dz/dt = f(t, z) over unit time.

    Arguments:
        features: D; events are of shape (D,).
        hidden: Sizes of the hidden layers of f.
        tolerance: Error a step may make in training, absolute and relative.
        eval_tolerance: The same in evaluation, and for the inverse.
        exact: Whether the trace is exact; by default up to 8 dimensions, and up to 32 in evaluation.

    Raises:
        ConvergenceError: the equation is too stiff for the solver.
    """

    adaptive = True
    compilable = False  # the solver looks at its errors

    def __init__(
        self,
        features: int,
        hidden: Sequence[int],
        tolerance: float = 1e-4,
        eval_tolerance: float = 1e-6,
        exact: bool | None = None,
    ) -> None:
        super().__init__((features,))
        self.velocity = Velocity(features, hidden)
        self.tolerance = tolerance
        self.eval_tolerance = eval_tolerance
        self.exact_in_training = features <= EXACT_UP_TO if exact is None else exact
        self.exact_log_det = features <= EXACT_IN_EVALUATION if exact is None else exact
        #: How often the last `forward` or `inverse` evaluated f.
        self.evaluations = 0

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.exact_in_training if self.training else self.exact_log_det:
            v = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)[:, None]
        else:
            v = random_signs(x)[None]

        def f(t: float, state: State) -> State:
            dz, jv = self.velocity(t, state[0], v)
            return dz, (v * jv).sum((0, 2))

        z, log_det = self._solve(f, (x, x.new_zeros(len(x))), 0.0, 1.0)
        return z, log_det

    def _inverse(self, z: Tensor) -> Tensor:
        return self._solve(lambda t, state: (self.velocity(t, state[0])[0],), (z,), 1.0, 0.0)[0]

    def _solve(self, f: Callable[[float, State], State], state: State, start: float, end: float) -> State:
        tolerance = self.tolerance if self.training else self.eval_tolerance
        result, self.evaluations = solve_ode(f, state, start, end, tolerance)
        return result

    def statistics(self) -> dict[str, float]:
        return {"function_evaluations": float(self.evaluations)}

    def describe(self) -> str:
        sizes = [linear.out_features for linear in self.velocity.linear[:-1]]
        kinds = ["exact" if exact else "estimated" for exact in (self.exact_in_training, self.exact_log_det)]
        trace = kinds[0] if kinds[0] == kinds[1] else f"{kinds[0]} in training, {kinds[1]} in evaluation"
        return f"CNF {sizes}, trace {trace}"


# Dormand and Prince's coefficients: stage times, stages, and the difference between the orders 5 and 4.
_C = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_A: tuple[tuple[float, ...], ...] = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def solve_ode(
    f: Callable[[float, State], State], state: State, start: float, end: float, tolerance: float
) -> tuple[State, int]:
    """The state at `end` of dy/dt = f(t, y) with y(start) = state, and how often f was evaluated.

    Arguments:
        f: Takes a time and a state (a tuple of tensors), gives the state's derivative.
        state: At `start`.
        tolerance: Largest error of a step, absolute and relative; at least 10 units in the last place.

    Raises:
        ConvergenceError: the end is not reached in `MAX_STEPS`.
    """
    tolerance = max(tolerance, 10 * torch.finfo(state[0].dtype).eps)
    t, step = start, end - start
    first = f(t, state)
    evaluations = 1
    for _ in range(MAX_STEPS):
        last = abs(step) >= abs(end - t)
        step = end - t if last else step
        stages = [first]
        for c, row in zip(_C[1:], _A[1:], strict=True):
            new = _combine(state, stages, row, step)
            stages.append(f(t + c * step, new))
        evaluations += len(stages) - 1
        with torch.no_grad():
            wrong = _combine(tuple(torch.zeros_like(y) for y in state), stages, _ERROR, step)
            ratios = [
                (e.abs() / (tolerance * (1 + torch.maximum(a.abs(), b.abs())))).max()
                for e, a, b in zip(wrong, state, new, strict=True)
                if e.numel()
            ]
            ratio = float(torch.stack(ratios).max()) if ratios else 0.0
        if not ratio < HUGE:  # a shorter step may mend that, unless it was broken before
            ratio = HUGE if ratio > 1 or all(bool(y.isfinite().all()) for y in (*state, *first)) else math.inf
        ratio = largest_of_batch(ratio)  # a step is as long as the whole batch lets it be
        if ratio == math.inf:
            return tuple(y * float("nan") for y in state), evaluations
        if ratio <= 1:
            state, first, t = new, stages[-1], t + step
            if last:
                return state, evaluations
        step *= min(5.0, max(0.1, 0.9 * max(ratio, 1e-10) ** -0.2))
    raise ConvergenceError(
        f"the ODE solver of a cnf step did not reach the end in {MAX_STEPS} steps (it stopped at t = {t:.3g} of "
        f"{end:g}): the dynamics are too stiff for a tolerance of {tolerance:.0e}"
    )


def _combine(state: State, stages: list[State], row: Sequence[float], step: float) -> State:
    """state + step Σ_i row_i stages_i."""
    result = list(state)
    for weight, stage in zip(row, stages, strict=True):
        if weight:
            result = [y.add(k, alpha=weight * step) for y, k in zip(result, stage, strict=True)]
    return tuple(result)
