"""One transform of the zuko library as a bijection.

    z = f(x),    log|det ∂z/∂x| = f's own,    x = f⁻¹(z)

zuko inverts its monotone maps (polynomials, neural networks, mixtures) by bisection between two fixed ends and returns
an end where the root lies beyond it. Here those maps are inverted by a root search that finds its own bracket, and
every inverse is checked: what f does not bring back to z is refused.

The check is one of z. Where f is flat, an x that is far from where z came from has the same z in single precision, and
no check of z tells them apart: of 200 points x ~ 1000 · N(0, 1), an untrained NSF brings two back to more than a
hundredth of 1 + |x|, one of them 1.2 of it off, with a residual of 1e-5; NICE, RealNVP and MAF up to 2e-2. Even an
exact inverse of such a z, in double precision, is as far off. In double precision throughout it is 1e-8, and at a tenth
of the distance in single precision 3e-3. The diagnostics measure it, as `round_trip_…`.

Source: Rozet et al., "Zuko: normalizing flows in PyTorch", 2022 (https://github.com/probabilists/zuko).
"""

from __future__ import annotations

import inspect
import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from zuko.lazy import LazyTransform, UnconditionalTransform
from zuko.transforms import (
    AutoregressiveTransform,
    ComposedTransform,
    CouplingTransform,
    DependentTransform,
    FreeFormJacobianTransform,
    MonotonicTransform,
)

from ..compute.rng import probed
from ..errors import ConvergenceError
from .base import Bijection
from .root_finding import monotone_root

#: Largest |f(f⁻¹(z)) − z| / (1 + |z|) of an inverse: room for the rounding of steep splines, not for a missed root.
TOLERANCE = 1e-2
#: Error of a root search, relative to 1 + |x|; Newton's last step usually leaves far less.
ROOT_TOLERANCE = 1e-8
#: Error of a step of an ODE in evaluation, that of the log-determinant included, to which zuko gives a hundredth of the
#: weight.
ODE_TOLERANCE = 1e-7


class ZukoTransform(Bijection):
    """z = f(x) with f a lazy transform of zuko that takes no context.

    An index may follow it if it learns anything and is more than a fixed kind of map (a rotation, a squashing).

    Arguments:
        features: D; events are of shape (D,).
        transform: f.
        name: The flow it comes from, for messages.

    Raises:
        ConvergenceError: an inverse was not found, or has no place in single precision.
    """

    compilable = False  # transforms of many kinds, not made with a compiler in mind

    def __init__(self, features: int, transform: LazyTransform, name: str) -> None:
        super().__init__((features,))
        self.transform = transform
        self.name = name
        learned = any(True for _ in transform.parameters())
        self.indexable = learned and not isinstance(transform, UnconditionalTransform)
        self.exact_log_det = self.exact_in_training = getattr(transform, "exact", True)
        self.bends_within = _bound(transform)
        #: Largest relative residual that the last `inverse` left.
        self.inverse_residual: float | None = None

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if torch.is_inference_mode_enabled():  # some of its maps need derivatives even where the caller wants none
            with torch.inference_mode(False), torch.no_grad():
                return self._forward(x.clone())
        with nullcontext() if self.exact_log_det else probed():
            z, log_det = self._made(x.dtype).call_and_ladj(x)
        return z, log_det.flatten(1).sum(1) if log_det.ndim > 1 else log_det

    def _made(self, dtype: torch.dtype) -> Any:
        """zuko's transform for the present weights; in evaluation its ODE is solved with more care."""
        f = self.transform()
        if isinstance(f, FreeFormJacobianTransform) and not self.training:
            tolerance = max(ODE_TOLERANCE, 10 * torch.finfo(dtype).eps)
            made = FreeFormJacobianTransform(f.f, f.t0, f.t1, f.phi, tolerance, tolerance, f.exact)
            made.trace_scale = 1.0
            return made
        return f

    def _inverse(self, z: Tensor) -> Tensor:
        if torch.is_inference_mode_enabled():  # as in `_forward`
            with torch.inference_mode(False), torch.no_grad():
                return self._inverse(z.clone())
        f = self._made(z.dtype)
        try:
            x = _inverted(f, z, f"the inverse of a step of zuko's {self.name}")
        except NotImplementedError as error:
            raise ConvergenceError(f"zuko's {self.name} has no inverse, so it can't be sampled") from error
        with torch.no_grad():
            residual = (f(x) - z).abs() / (1 + z.abs())
        wrong = ~(residual <= TOLERANCE).all(1)
        if bool(wrong.any()):
            raise ConvergenceError(
                f"the inverse of a step of zuko's {self.name} is wrong at {int(wrong.sum())} of {len(z)} points: no x "
                f"was found that the step takes there, so either it does not reach them or it is too steep for its "
                f"precision"
            )
        self.inverse_residual = float(residual.max()) if residual.numel() else 0.0
        return x

    def describe(self) -> str:
        kind = getattr(self.transform, "f", None) if isinstance(self.transform, UnconditionalTransform) else None
        return f"zuko {self.name}: {(kind or type(self.transform)).__name__}"


def _bound(transform: LazyTransform) -> float:
    """Outside of ± which bound a transform is a straight line: that of the map of each coordinate, if it has one."""
    univariate = getattr(transform, "univariate", None)
    given = getattr(univariate, "keywords", {}).get("bound")
    if given is None and callable(univariate) and not isinstance(univariate, torch.nn.Module):
        given = getattr(inspect.signature(univariate).parameters.get("bound"), "default", None)
    return float(given) if isinstance(given, int | float) else math.inf


def _inverted(f: Any, z: Tensor, name: str) -> Tensor:
    """x with f(x) = z, taken apart down to the maps of one coordinate."""
    if isinstance(f, AutoregressiveTransform):
        x = torch.zeros_like(z)
        for _ in range(f.passes):
            x = _inverted(f.meta(x), z, name)
        return x
    if isinstance(f, CouplingTransform):
        kept, moved = f.split(z)
        return f.merge(kept, _inverted(f.meta(kept), moved, name), z.shape)
    if isinstance(f, DependentTransform):
        return _inverted(f.base, z, name)
    if isinstance(f, ComposedTransform):
        for part in reversed(f.transforms):
            z = _inverted(part, z, name)
        return z
    if isinstance(f, MonotonicTransform):

        def value_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
            y, log_slope = f.call_and_ladj(x)
            return y, log_slope.exp()

        return monotone_root(value_and_slope, z, tolerance=ROOT_TOLERANCE, name=name).x
    return f.inv(z)
