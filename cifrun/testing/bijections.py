"""What every bijection promises: its log-determinant, its inverse, their derivatives, shapes, rows that do not mix."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from ..bijections.base import Bijection
from .promises import NotPromised, close, gradients_of, hold, pickled, prepare, require, spread_out

__all__ = ["CHECKS", "BijectionCase", "check_bijection"]

#: Added to the parameters, as standard deviation: enough to leave every special point.
SPREAD = 0.3
#: Rows of a batch, and of one that is only there to set what a map learns from data.
ROWS, MANY = 6, 64
#: Absolute and relative error of a gradient through norms that are found by iteration, and so known to some digits.
LOOSE = 1e-3, 1e-2


def check_bijection(
    bijection_or_factory: Bijection | Callable[[], Bijection], x: Tensor | None = None, *, spread: float = SPREAD
) -> None:
    """Check that a bijection keeps what every bijection promises, on copies of it.

    - The log-determinant is log|det ∂z/∂x| of autograd, and its gradient that of finite differences; if it is exact.
    - inverse(forward(x)) = x and forward(inverse(z)) = z, in double and in single precision.
    - Gradients reach every parameter. forward(inverse(z)) has the derivative of the identity in z and 0 in parameters.
    - A wrong shape is refused with a `ValueError` that names both shapes.
    - z and log-determinant of a row depend on no other row; a batch of no rows works.
    - Deep copies, pickles and another instance with the same state give the same. `describe()` is one line.

    Arguments:
        bijection_or_factory: The bijection, or what makes one: then a state that is loaded into a second one is
            checked as well.
        x: A batch of at least two events, (batch, *shape), where the map is not defined for all numbers, or is no map
            of all to all; by default standard normal ones, and z likewise.
        spread: Standard deviation of what is added to the parameters first; 0 checks them as they are.

    Raises:
        AssertionError: A promise is broken. The message says which, and by how much.
        TypeError: It is no `Bijection`, or is one that draws what it returns.

    Example:
        >>> from cifrun.bijections.linear import LULinear
        >>> from cifrun.testing import check_bijection
        >>> check_bijection(lambda: LULinear((3,)))
    """
    hold(CHECKS.values(), BijectionCase(bijection_or_factory, x, spread))


class BijectionCase:
    """A bijection to check.

    Arguments:
        bijection_or_factory: The bijection, which is copied, or what makes one.
        x: A batch of events; by default standard normal ones.
        spread: Standard deviation of what is added to the parameters.

    Raises:
        TypeError: It is no `Bijection`, or is one that draws what it returns.
    """

    def __init__(
        self,
        bijection_or_factory: Bijection | Callable[[], Bijection],
        x: Tensor | None = None,
        spread: float = SPREAD,
    ) -> None:
        given = bijection_or_factory
        self.make = (lambda: copy.deepcopy(given)) if isinstance(given, Bijection) else given
        self.x, self.spread = x, spread
        what = (
            "check_bijection takes a cifrun.bijections.base.Bijection, or a function without arguments that makes one"
        )
        if isinstance(given, torch.nn.Module) and not isinstance(given, Bijection):
            raise TypeError(f"{what}, and not a {type(given).__name__}")
        try:
            made = self.make()
        except TypeError as error:
            raise TypeError(f"{what}: {error}") from error
        if not isinstance(made, Bijection):
            raise TypeError(f"{what}, and not one that makes a {type(made).__name__}")
        if made.stochastic:
            raise TypeError(f"{type(made).__name__} draws what it returns, so it is no bijection")
        self.exact = made.exact_log_det
        self.name = type(made).__name__

    def __str__(self) -> str:
        return self.name

    def example(self, dtype: torch.dtype = torch.float64, rows: int = ROWS) -> tuple[Bijection, Tensor]:
        """An instance in evaluation mode with parameters away from their initial values, and a batch for it."""
        torch.manual_seed(1)
        bijection = self.make()
        like = next(
            (t for t in (*bijection.parameters(), *bijection.buffers()) if t.is_floating_point()), torch.ones(1)
        )
        seen = 1.5 * torch.randn(MANY, *bijection.shape) + 0.5 if self.x is None else self.x
        bijection.train()(seen.to(like))  # for what looks at data
        spread_out(bijection, self.spread, seed=2).to(dtype).eval()
        prepare(bijection)
        if self.x is None:
            return bijection, torch.randn(rows, *bijection.shape, dtype=torch.float64).to(dtype)
        return bijection, self.x[:rows].detach().clone().to(dtype)

    def latent(self, bijection: Bijection, x: Tensor) -> Tensor:
        """A batch of z: anything if x may be, else what the map makes of x."""
        if self.x is None:
            return torch.randn(len(x), *bijection.latent_shape, dtype=x.dtype)
        with torch.no_grad():
            return bijection(x)[0].detach().clone()

    def need_exact(self) -> None:
        """Nothing if the log-determinant is exact.

        Raises:
            NotPromised: It is an estimate.
        """
        if not self.exact:
            raise NotPromised("its log-determinant is an estimate")


# --- the checks -------------------------------------------------------------------------------------------------------


def shapes(case: BijectionCase) -> None:
    """z is (batch, *latent_shape), the log-determinant (batch,), and the inverse (batch, *shape)."""
    bijection, x = case.example()
    with torch.no_grad():
        z, log_det = bijection(x)
        back = bijection.inverse(z)
    for what, found, expected in (
        ("z", z, (len(x), *bijection.latent_shape)),
        ("the log-determinant", log_det, (len(x),)),
        ("the inverse", back, (len(x), *bijection.shape)),
    ):
        require(found.shape == expected, f"{what} should have the shape {expected}, but has {tuple(found.shape)}")
        require(found.dtype == x.dtype, f"{what} should be {x.dtype} as x is, but is {found.dtype}")
        hint = ": where the map is not defined for all numbers, give it x" if case.x is None else ""
        require(found.isfinite().all(), f"{what} should be finite, but is not{hint}")


def log_det_is_that_of_autograd(case: BijectionCase) -> None:
    """log|det ∂z/∂x| from D backward passes, for a map that treats each row on its own."""
    case.need_exact()
    bijection, x = case.example()
    x.requires_grad_()
    z, log_det = bijection(x)
    flat = z.flatten(1)
    rows = [torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0].flatten(1) for i in range(flat.shape[1])]
    jacobian = torch.linalg.slogdet(torch.stack(rows, 1)).logabsdet
    close(log_det, jacobian, "the log-determinant should be that of autograd's Jacobian", atol=1e-6)


def _round_trip(case: BijectionCase, dtype: torch.dtype, atol: float, precision: str) -> None:
    bijection, x = case.example(dtype)
    with torch.no_grad():
        close(bijection.inverse(bijection(x)[0]), x, f"inverse(forward(x)) should be x in {precision}", atol=atol)
        z = case.latent(bijection, x)
        close(bijection(bijection.inverse(z))[0], z, f"forward(inverse(z)) should be z in {precision}", atol=atol)


def round_trip(case: BijectionCase) -> None:
    """There and back in double precision, from x and from z."""
    _round_trip(case, torch.float64, 1e-5, "double precision")


def round_trip_in_single_precision(case: BijectionCase) -> None:
    """There and back in single precision, from x and from z."""
    _round_trip(case, torch.float32, 1e-3, "single precision")


def gradients_reach_every_parameter(case: BijectionCase) -> None:
    """Of ‖z‖² plus the log-determinant, in training mode."""
    bijection, x = case.example()
    z, log_det = bijection.train()(x)
    torch.autograd.backward([t for t in (z.square().sum(), log_det.sum()) if t.requires_grad])
    gradients_of(bijection)


def gradient_of_the_log_det_is_right(case: BijectionCase) -> None:
    """Along one random direction of x and the parameters, against a central difference."""
    case.need_exact()
    bijection, x = case.example(rows=2)
    point = [x.requires_grad_(), *bijection.parameters()]
    direction = [torch.randn_like(p) for p in point]
    log_det = bijection(x)[1].sum()
    slope = torch.zeros((), dtype=x.dtype)
    if log_det.requires_grad:
        grads = torch.autograd.grad(log_det, point, allow_unused=True)
        slope += sum((g * d).sum() for g, d in zip(grads, direction, strict=True) if g is not None)

    @torch.no_grad()
    def moved(eps: float) -> Tensor:
        for p, d in zip(point, direction, strict=True):
            p.add_(d, alpha=eps)
        prepare(bijection)
        return bijection(x)[1].sum()

    eps = 1e-5
    change = (moved(eps) - moved(-2 * eps)) / (2 * eps)
    atol, rtol = LOOSE if any(hasattr(part, "prepare_all") for part in bijection.modules()) else (1e-5, 1e-4)
    close(slope, change, "the gradient of the log-determinant should be the finite difference", atol=atol, rtol=rtol)


def inverse_has_the_derivatives_of_an_inverse(case: BijectionCase) -> None:
    """forward(inverse(z)) = z for all parameters: its derivative is the identity in z, and 0 in the parameters."""
    bijection, x = case.example()
    z = case.latent(bijection, x).requires_grad_()
    parameters = dict(bijection.named_parameters())
    inverse = bijection.inverse(z)
    require(inverse.requires_grad, "the inverse should have a derivative in z, but it is detached")
    direction = torch.randn_like(z)
    there_and_back = (bijection(inverse)[0] * direction).sum()
    found, *others = torch.autograd.grad(there_and_back, [z, *parameters.values()], allow_unused=True)
    found = torch.zeros_like(z) if found is None else found
    close(found, direction, "forward(inverse(z)) should have the derivative of the identity", atol=1e-5)
    for name, grad in zip(parameters, others, strict=True):
        if grad is not None:
            promise = f"forward(inverse(z)) should have the derivative 0 in '{name}'"
            close(grad, torch.zeros_like(grad), promise, atol=1e-5 * max(1.0, float(direction.norm())))


def wrong_shapes_are_refused(case: BijectionCase) -> None:
    """With a `ValueError` that names the shape it takes and the shape it was given."""
    bijection, x = case.example()
    for call, what, right in (
        (bijection, "forward", bijection.shape),
        (bijection.inverse, "inverse", bijection.latent_shape),
    ):
        wrong = (3, *right, 1)
        promise = f"{what} should refuse a tensor of shape {wrong} with a ValueError that names it and {right}"
        try:
            call(torch.zeros(wrong, dtype=x.dtype))
        except ValueError as error:
            text = str(error)
            require(str(right) in text and str(wrong) in text, f"{promise}, but says: {' '.join(text.split())}")
        except Exception as error:
            raise AssertionError(f"{promise}, but raises a {type(error).__name__}") from error
        else:
            raise AssertionError(f"{promise}, but takes it")


def rows_do_not_mix(case: BijectionCase) -> None:
    """A row alone gives what it gives in a batch."""
    case.need_exact()
    bijection, x = case.example()
    with torch.no_grad():
        z, log_det = bijection(x)
        for i in (0, len(x) - 1):
            one, term = bijection(x[i : i + 1])
            close(one, z[i : i + 1], "z of a row should depend on no other row", rtol=1e-6, atol=1e-6)
            promise = "the log-determinant of a row should depend on no other row"
            close(term, log_det[i : i + 1], promise, rtol=1e-6, atol=1e-6)
        back = bijection.inverse(z)
        one = bijection.inverse(z[:1])
        close(one, back[:1], "the inverse of a row should depend on no other row", rtol=1e-5, atol=1e-5)


def an_empty_batch_works(case: BijectionCase) -> None:
    """No rows in, no rows out, both ways."""
    bijection, x = case.example()
    with torch.no_grad():
        z, log_det = bijection(x[:0])
        found = (tuple(z.shape), tuple(log_det.shape), tuple(bijection.inverse(z).shape))
    expected = ((0, *bijection.latent_shape), (0,), (0, *bijection.shape))
    require(found == expected, f"of no rows the shapes should be {expected}, but are {found}")


def copies_give_the_same(case: BijectionCase) -> None:
    """Deep copies, pickles, and an instance that takes over the state."""
    bijection, x = case.example()
    with torch.no_grad():
        z = bijection(x)[0]  # also fills whatever is kept between calls
        fresh = case.make().to(x.dtype).eval()
        fresh.load_state_dict(bijection.state_dict())
        prepare(fresh)
        for what, twin in {**pickled(bijection), "another instance with its state": fresh}.items():
            close(twin(x)[0], z, f"{what} should give the same z", atol=1e-7)


def description_is_one_line(case: BijectionCase) -> None:
    """`describe()` is a line of a table."""
    text = case.make().describe()
    lines = len(text.splitlines())
    require(lines == 1, f"describe() should be one line, but is {lines}")


#: Each promise by its name, which its function checks.
CHECKS: dict[str, Callable[[BijectionCase], None]] = {
    check.__name__: check
    for check in (
        shapes,
        log_det_is_that_of_autograd,
        round_trip,
        round_trip_in_single_precision,
        gradients_reach_every_parameter,
        gradient_of_the_log_det_is_right,
        inverse_has_the_derivatives_of_an_inverse,
        wrong_shapes_are_refused,
        rows_do_not_mix,
        an_empty_batch_works,
        copies_give_the_same,
        description_is_one_line,
    )
}
