"""x with x + g(x) = z for a contraction g, each row of a batch on its own: the inverse of a residual block.

The fixed point of x ← z − g(x) is found faster than by iterating, with what earlier residuals r = x + g(x) − z tell:

- Broyden's method, where the Jacobian J of g is at hand: x ← x − H r with H near (I + J)⁻¹. It begins with J at z.
- Anderson's method, for many dimensions: x ← x − r − (ΔX − ΔR) γ, where γ minimises |r − ΔR γ|, and ΔX, ΔR are the last
  few changes of x and of r.

Neither needs to converge. A row that does not come nearer takes the iteration's own step, which does: |r| in the
Euclidean norm falls by the factor κ = Lip g at least.

References: Broyden, "A class of methods for solving nonlinear simultaneous equations", Mathematics of Computation 1965;
Walker, Ni, "Anderson acceleration for fixed-point iterations", SIAM Journal on Numerical Analysis 2011.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import ConvergenceError

__all__ = ["Anderson", "Broyden", "Search", "inverse_of_sum"]

MAX_ITERATIONS = 2000
#: Changes that Anderson's method looks back on.
MEMORY = 8
#: Where changes are nearly dependent γ is not determined: what is added to their squares, as a part of the largest.
RIDGE = 1e-10


class Search(ABC):
    """A way to x.

    Arguments:
        g: (rows, *event) → (rows, *event).
    """

    def __init__(self, g: Callable[[Tensor], Tensor]) -> None:
        self.g = g

    @abstractmethod
    def start(self, x: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        """r, and what else is known of each row."""

    @abstractmethod
    def step(self, x: Tensor, z: Tensor, state: tuple[Tensor, ...], count: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A better x, and its state; `count` steps were before."""

    def residual(self, x: Tensor, z: Tensor) -> Tensor:
        """r = x + g(x) − z."""
        return x + self.g(x) - z

    def __call__(self, z: Tensor) -> tuple[Tensor, float]:
        """x, and the largest |r| / (1 + |z|) of all rows, in the maximum norm. Rows that are found leave the batch.

        A row is found when |r| is at most 8 units in the last place of 1 + max(|x|, |z|): r is a sum of numbers of
        that size, and near κ = 1 an x may be much larger than its z.

        Raises:
            ConvergenceError: A row was not found.
        """
        tolerance = 8 * torch.finfo(z.dtype).eps
        x, worst = torch.empty_like(z), 0.0
        if not len(z):
            return x, worst
        active = torch.arange(len(z), device=z.device)
        goal, guess = z, z
        state = self.start(guess, goal)
        for count in range(MAX_ITERATIONS):
            left_over, size = _largest(state[0]), 1 + _largest(goal)
            error, done = left_over / size, left_over <= tolerance * torch.maximum(size, 1 + _largest(guess))
            if done.any():
                x[active[done]] = guess[done]
                worst = max(worst, error[done].max().item())
                if done.all():
                    return x, worst
                left = ~done
                active, goal, guess = active[left], goal[left], guess[left]
                state = tuple(part[left] for part in state)
            guess, state = self.step(guess, goal, state, count)
        raise ConvergenceError(
            f"the inverse of a residual block did not converge for {len(active)} of {len(z)} points: "
            f"after {MAX_ITERATIONS} iterations the largest residual |x + g(x) - z| / (1 + |z|) is "
            f"{error.max().item():.1e}, and {tolerance:.1e} is wanted; is Lip g < 1?"
        )


class Anderson(Search):
    """Of any number of dimensions; a step is one pass through g, and a few products with the last changes."""

    def start(self, x: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        """r; ΔX − ΔR and ΔR, (rows, MEMORY, numbers), of zeros at first."""
        r = self.residual(x, z)
        nothing = r.new_zeros(len(r), MEMORY, r[0].numel())
        return r, nothing, nothing.clone()

    def step(self, x: Tensor, z: Tensor, state: tuple[Tensor, ...], count: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `Search`."""
        r, ahead, changes = state
        squares = (changes @ changes.mT).double()
        largest = squares.diagonal(dim1=1, dim2=2).amax(1)[:, None].clamp_min(torch.finfo(torch.float64).tiny)
        squares.diagonal(dim1=1, dim2=2).add_(RIDGE * largest)
        along = (changes @ r.flatten(1)[:, :, None]).double()
        gamma = torch.linalg.solve_ex(squares, along)[0].to(r.dtype)
        new = x - r - (gamma * ahead).sum(1).view_as(x)
        new_r = self.residual(new, z)
        worse = ~(_length(new_r) < _length(r))
        if worse.any():
            new[worse] = (x - r)[worse]
            new_r[worse] = self.residual(new[worse], z[worse])
            ahead[worse], changes[worse] = 0, 0
        slot = count % MEMORY
        changes[:, slot] = (new_r - r).flatten(1)
        ahead[:, slot] = (new - x).flatten(1) - changes[:, slot]
        return new, (new_r, ahead, changes)


class Broyden(Search):
    """Of few dimensions.

    Arguments:
        g: As for `Search`; of flat events.
        with_jacobian: x ↦ g(x) and J, (rows, D, D), which costs 1 + D passes.
    """

    def __init__(self, g: Callable[[Tensor], Tensor], with_jacobian: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        super().__init__(g)
        self.with_jacobian = with_jacobian

    def start(self, x: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        """r and H = (I + J)⁻¹."""
        g, jacobian = self.with_jacobian(x)
        return x + g - z, inverse_of_sum(jacobian)

    def step(self, x: Tensor, z: Tensor, state: tuple[Tensor, ...], count: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """s = −H r, after which H learns from what became of r:

            H ← H + (s − H y) sᵀH / (sᵀ H y),        y the change of r

        Rows whose residual is not halved get a new Jacobian, for a Newton step; and those that Newton does not bring
        nearer the iteration's own step.
        """
        r, inverse = state
        s = -_times(inverse, r)
        new = x + s
        new_r = self.residual(new, z)
        y = new_r - r
        row = (s[:, :, None] * inverse).sum(1)
        along = (row * y).sum(1)[:, None, None]
        learned = (s - _times(inverse, y))[:, :, None] * row[:, None] / along
        inverse = inverse + torch.where(along == 0, 0.0, learned)
        before, after = _length(r), _length(new_r)
        slow = ~(after < before / 2)
        if slow.any():
            base = torch.where((after < before)[:, None], new, x)[slow]
            new[slow], found = self._newton(base, z[slow])
            for part, better in zip((new_r, inverse), found, strict=True):
                part[slow] = better
        return new, (new_r, inverse)

    def _newton(self, x: Tensor, z: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        r, inverse = self.start(x, z)
        new = x - _times(inverse, r)
        state = self.start(new, z)
        worse = ~(_length(state[0]) < _length(r))
        if worse.any():
            new[worse] = x[worse] - r[worse]
            for part, fixed in zip(state, self.start(new[worse], z[worse]), strict=True):
                part[worse] = fixed
        return new, state


def inverse_of_sum(jacobian: Tensor) -> Tensor:
    """(I + J)⁻¹ for J (batch, D, D); of any content where I + J is singular."""
    dim = jacobian.shape[-1]
    matrix = jacobian + torch.eye(dim, dtype=jacobian.dtype, device=jacobian.device)
    if dim > 2:
        return torch.linalg.inv_ex(matrix)[0]
    if dim == 1:
        return 1 / matrix
    (a, b), (c, d) = (row.unbind(1) for row in matrix.unbind(1))
    return (torch.stack([d, -b, -c, a], 1) / (a * d - b * c)[:, None]).unflatten(1, (2, 2))


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """The product for each row: (batch, D, D) and (batch, D) → (batch, D)."""
    return (matrix * vector[:, None]).sum(2)


def _largest(x: Tensor) -> Tensor:
    """The maximum norm of each row."""
    return x.abs().flatten(1).amax(1)


def _length(r: Tensor) -> Tensor:
    """The Euclidean norm of each row; of one that is not finite no comparison holds."""
    return torch.linalg.vector_norm(r.flatten(1), dim=1)
