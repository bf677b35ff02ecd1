"""Monotone maps of one number, given parameters h: what coupling and autoregressive steps apply to each coordinate."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

__all__ = ["Affine", "Univariate", "soft_clamp"]


def soft_clamp(x: Tensor, bound: float) -> Tensor:
    """bound · tanh(x / bound): x near zero, and never beyond ±bound."""
    return torch.tanh(x / bound) * bound


class Univariate(ABC):
    """An increasing map z = f(x; h) of each number x of a tensor, with parameters h of its own in the last dimension.

    At h = 0 it is close to the identity, so a network that starts at zero gives a step that starts there.
    """

    #: Parameters a number needs: the size k of the last dimension of h.
    size: int
    #: B: f bends on [−B, B] alone, and is a straight line outside.
    bends_within: float = math.inf

    @abstractmethod
    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """(…), (…, k) ↦ z and log ∂z/∂x, both (…)."""

    @abstractmethod
    def inverse(self, z: Tensor, h: Tensor) -> Tensor:
        """(…), (…, k) ↦ x with f(x; h) = z."""


class Affine(Univariate):
    """z = (x + t) exp(s), with h = (s', t) and s = S tanh(s' / S).

    Arguments:
        bound: S, the largest |s|: no step stretches by more than exp(S), so none overflows.
    """

    size = 2

    def __init__(self, bound: float = 8.0) -> None:
        self.bound = bound

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        s, t = soft_clamp(h[..., 0], self.bound), h[..., 1]
        return (x + t) * s.exp(), s

    def inverse(self, z: Tensor, h: Tensor) -> Tensor:
        s, t = soft_clamp(h[..., 0], self.bound), h[..., 1]
        return z * (-s).exp() - t
