"""Roots of increasing functions, each element on its own: Newton's method kept inside a bracket that always shrinks.

The root x(t, θ) of f(x; θ) = t has derivatives of its own, by the implicit function theorem:

    ∂x/∂t = 1 / f′(x),        ∂x/∂θ = −(∂f/∂θ) / f′(x)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ConvergenceError

__all__ = ["Root", "monotone_root"]

#: An x that rounding leaves open by more than this share of 1 + |x| is no root.
UNDETERMINED = 0.01


class Root(NamedTuple):
    """Where an increasing function takes a value, and how well."""

    x: Tensor
    #: Largest |f(x) − target| / (1 + |target|).
    residual: float


def monotone_root(
    f: Callable[[Tensor], tuple[Tensor, Tensor]],
    target: Tensor,
    lower: Tensor | float = -1.0,
    upper: Tensor | float = 1.0,
    tolerance: float | None = None,
    max_iterations: int = 400,
    name: str = "the inverse",
) -> Root:
    """x with f(x) = target, for f increasing in each element of x and no other.

    With gradients on, x may be differentiated once, in the target and in whatever f depends on.

    The bracket first grows, twice as far each time, until it holds the root. Then each iteration takes Newton's step if
    it stays in the bracket, and every third halves the bracket whatever Newton says. An element is done when Newton's
    step, which estimates its error, or its bracket is below tolerance · (1 + |x|), or when f(x) is the target but for
    rounding.

    Arguments:
        f: Takes x, gives f(x) and ∂f/∂x, all of one shape.
        target: Any shape.
        lower, upper: A first bracket, which may miss the root.
        tolerance: 8 units in the last place if not given.
        max_iterations: Of each of the two phases.
        name: What is being solved, for the message.

    Raises:
        ConvergenceError: No bracket found (f is not onto, or not finite), not converged, or f so flat that rounding
            leaves x open.
    """
    with torch.no_grad():
        root = _search(f, target, lower, upper, tolerance, max_iterations, name)
    if not torch.is_grad_enabled():
        return root
    value, slope = f(root.x)
    step = (value - target) / slope.detach()
    return Root(root.x - (step - step.detach()), root.residual)


def _search(
    f: Callable[[Tensor], tuple[Tensor, Tensor]],
    target: Tensor,
    lower: Tensor | float,
    upper: Tensor | float,
    tolerance: float | None,
    max_iterations: int,
    name: str,
) -> Root:
    eps = torch.finfo(target.dtype).eps
    tolerance = 8 * eps if tolerance is None else max(tolerance, 8 * eps)
    low = torch.as_tensor(lower, dtype=target.dtype, device=target.device).expand_as(target)
    high = torch.as_tensor(upper, dtype=target.dtype, device=target.device).expand_as(target)
    width = high - low
    for _ in range(max_iterations):
        too_high, too_low = f(low)[0] > target, f(high)[0] < target
        if not bool((too_high | too_low).any()):
            break
        low, high = torch.where(too_high, low - width, low), torch.where(too_low, high + width, high)
        width = 2 * width
        if not bool(width.isfinite().all() & low.isfinite().all() & high.isfinite().all()):
            raise ConvergenceError(f"{name} has no value here: no x was found with f(x) = {_first(target, too_low)}")
    x = (low + high) / 2
    for iteration in range(max_iterations):
        value, slope = f(x)
        error = value - target
        low, high = torch.where(error <= 0, x, low), torch.where(error >= 0, x, high)
        step = error / slope
        scale = tolerance * (1 + x.abs())
        done = (step.abs() <= scale) | (high - low <= scale) | (error.abs() <= 2 * eps * (1 + target.abs()))
        if bool(done.all()):
            # Where f is flat, rounding of its value leaves x open: any x of a wide interval has this f(x).
            flat = ~(2 * eps * (1 + target.abs()) <= UNDETERMINED * slope * (1 + x.abs()))
            if bool(flat.any()):
                raise ConvergenceError(
                    f"{name} is not determined at {int(flat.any(-1).sum())} of {len(flat)} points: the step is so flat "
                    f"there that in this precision far-off x have one f(x), as {_first(target, flat)}"
                )
            return Root(x, float((error.abs() / (1 + target.abs())).max()) if target.numel() else 0.0)
        newton = x - step
        inside = (newton > low) & (newton < high) if iteration % 3 != 2 else torch.zeros_like(done)
        x = torch.where(done, x, torch.where(inside, newton, (low + high) / 2))
    raise ConvergenceError(
        f"{name} did not converge in {max_iterations} iterations: at f(x) = {_first(target, ~done)} x is only known to "
        f"lie in an interval of width {float((high - low)[~done][0]):.1e}"
    )


def _first(target: Tensor, where: Tensor) -> str:
    chosen = target[where] if bool(where.any()) else target.flatten()
    return f"{float(chosen[0]):.4g}"
