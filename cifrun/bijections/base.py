"""What a bijection is: two methods, and shape checks in one place.

    forward(x) → (z, log|det ∂z/∂x|)      normalising direction, x from the data side
    inverse(z) → x                        generative direction

x is (batch, *shape), z is (batch, *latent_shape), the log-determinant is (batch,), in nats. The log-determinant of the
inverse at z is minus that of forward at x = inverse(z); sampling needs none, so `inverse` does not pay for one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["Bijection", "Compose", "Identity", "Invert"]


class Bijection(nn.Module, ABC):
    """An invertible map between events of `shape` (data side) and `latent_shape` (prior side).

    Subclasses write `_forward` and `_inverse`; callers use `forward` and `inverse`, which check shapes.

    Arguments:
        shape: Shape of one event on the data side, without the batch.
        latent_shape: Shape of one event on the prior side; `shape` if not given.

    Raises:
        ValueError: an argument whose event shape is another one.
    """

    #: Whether an index may follow this map. False for maps that only rearrange or rescale (permutations, norms).
    indexable: bool = True
    #: False when `forward` returns an unbiased estimate of the log-determinant instead of its value, in evaluation or
    #: in training. Its noise is that of `rng.probe`.
    exact_log_det: bool = True
    exact_in_training: bool = True
    #: B: what the map learns is within [−B, B]; numbers outside see a straight line, or the identity.
    bends_within: float = math.inf
    #: Whether `torch.compile` can make one graph of `forward`. False where a loop looks at its own numbers.
    compilable: bool = True
    #: Whether how much `forward` computes depends on its own numbers, which then have to come from the device.
    adaptive: bool = False
    #: True for a step that draws what it returns, as a decoder with an inference model does; then it is no bijection.
    stochastic: bool = False

    def __init__(self, shape: Sequence[int], latent_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.latent_shape = self.shape if latent_shape is None else tuple(latent_shape)
        #: Shape of the leading part of an event, along its first dimension, that the map changes and an index sees.
        self.active_shape = self.latent_shape

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x ↦ (z, log|det ∂z/∂x|).

        Raises:
            ValueError: The events of x have another shape.
        """
        self._check(x, self.shape)
        return self._forward(x)

    def inverse(self, z: Tensor) -> Tensor:
        """z ↦ x with forward(x) = z.

        Raises:
            ConvergenceError: An iterative inverse missed its tolerance.
            ValueError: The events of z have another shape.
        """
        self._check(z, self.latent_shape)
        return self._inverse(z)

    @abstractmethod
    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _inverse(self, z: Tensor) -> Tensor: ...

    @property
    def lipschitz_ceiling(self) -> float | None:
        """A bound on max(Lip f, Lip f⁻¹) over all of space, for the present weights; None where none is known."""
        return None

    def statistics(self) -> dict[str, float]:
        """Numbers about the last use that training logs, such as the cost of an adaptive solver."""
        return {}

    def describe(self) -> str:
        """One short line for `cifrun show`: the map's name and what one would ask about its size."""
        return type(self).__name__

    def _check(self, value: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(value.shape[1:]) != shape:
            raise ValueError(
                f"{type(self).__name__} takes a batch of events of shape {shape}, "
                f"but was given a tensor of shape {tuple(value.shape)}"
            )


class Identity(Bijection):
    """z = x. With an index after it, a layer of a variational autoencoder."""

    lipschitz_ceiling = 1.0

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(x.shape[0])

    def _inverse(self, z: Tensor) -> Tensor:
        return z


class Compose(Bijection):
    """Several bijections as one: z = b_n(… b_1(x)); log-determinants add."""

    def __init__(self, bijections: Sequence[Bijection]) -> None:
        super().__init__(bijections[0].shape, bijections[-1].latent_shape)
        self.bijections: Sequence[Bijection] = nn.ModuleList(bijections)  # type: ignore[assignment]
        self.exact_log_det = all(b.exact_log_det for b in bijections)
        self.exact_in_training = all(b.exact_in_training for b in bijections)
        self.compilable = all(b.compilable for b in bijections)

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_det = x.new_zeros(x.shape[0])
        for bijection in self.bijections:
            x, term = bijection(x)
            log_det = log_det + term
        return x, log_det

    def _inverse(self, z: Tensor) -> Tensor:
        for bijection in reversed(self.bijections):
            z = bijection.inverse(z)
        return z

    @property
    def lipschitz_ceiling(self) -> float | None:
        bounds = [b.lipschitz_ceiling for b in self.bijections]
        return math.prod(b for b in bounds if b is not None) if None not in bounds else None

    def describe(self) -> str:
        return " → ".join(b.describe() for b in self.bijections)


class Invert(Bijection):
    """The same map, turned around: forward is the wrapped map's inverse."""

    def __init__(self, bijection: Bijection) -> None:
        super().__init__(bijection.latent_shape, bijection.shape)
        self.bijection = bijection
        self.exact_log_det, self.exact_in_training = bijection.exact_log_det, bijection.exact_in_training
        self.compilable = False  # an inverse may be a search

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.bijection.inverse(x)
        return z, -self.bijection(z)[1]

    def _inverse(self, z: Tensor) -> Tensor:
        return self.bijection(z)[0]

    @property
    def lipschitz_ceiling(self) -> float | None:
        return self.bijection.lipschitz_ceiling

    def describe(self) -> str:
        return f"inverse of {self.bijection.describe()}"
