"""Products with the Jacobian of a function g of x and of tensors θ, and their gradients, in two ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from .._kernels import rows

__all__ = ["ByRows", "Differentiated", "Products"]


class Products(Protocol):
    """g, as a function of x, (batch, *event), and of tensors θ."""

    def value(self, x: Tensor, *theta: Tensor) -> Tensor:
        """g(x; θ), for which nobody needs a gradient."""

    def at(self, x: Tensor, *theta: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """g(x; θ), and p ↦ Jᵀ p for each datum, with J = ∂g/∂x."""

    def gradients(
        self, x: Tensor, v: Tensor, grad_value: Tensor, grad_product: Tensor, *theta: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Of ⟨grad_value, g(x; θ)⟩ + ⟨grad_product, J v⟩ in x and θ, with v held fixed; None is zero."""


class Differentiated:
    """Automatic differentiation, for any g(x, *theta)."""

    def __init__(self, g: Callable[..., Tensor]) -> None:
        self.value = g

    def at(self, x: Tensor, *theta: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """See `Products`."""
        with torch.enable_grad():
            inputs = x.detach().requires_grad_()
            value = self.value(inputs, *(t.detach() for t in theta))
        return value.detach(), lambda p: torch.autograd.grad(value, inputs, p, retain_graph=True)[0]

    def gradients(
        self, x: Tensor, v: Tensor, grad_value: Tensor, grad_product: Tensor, *theta: Tensor
    ) -> tuple[Tensor | None, ...]:
        """See `Products`."""
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in (x, *theta)]
            value = self.value(*leaves)
            (product,) = torch.autograd.grad(value, leaves[0], grad_product, create_graph=True)
            return torch.autograd.grad((value, product), leaves, (grad_value, v), allow_unused=True)


class ByRows:
    """g(x) = Aᵀ n(B x) + b with a SiLU network n of rows, by hand: the networks of two layers or more that are here.

    Arguments:
        gather: B or A, (batch, *event) → (rows, numbers): the rows of x that n takes, as 3×3 pixels around each.
        scatter: Its transpose: adds rows up where they overlap.

    θ are the weights of n, its biases, and b, with one number for each of an event's first dimension.
    """

    def __init__(self, gather: Callable[[Tensor], Tensor], scatter: Callable[[Tensor], Tensor]) -> None:
        self._gather = gather
        self._scatter = scatter

    def value(self, x: Tensor, *theta: Tensor) -> Tensor:
        """See `Products`."""
        weights, biases, last = _parts(theta)
        return self._event(rows.evaluate(self._gather(x), weights, biases)[0], last)

    def at(self, x: Tensor, *theta: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """See `Products`."""
        weights, biases, last = _parts(theta)
        value, slopes = rows.evaluate(self._gather(x), weights, biases, keep=True)
        return self._event(value, last), lambda p: self._scatter(rows.pulled(self._gather(p), weights, slopes))

    def gradients(
        self, x: Tensor, v: Tensor, grad_value: Tensor, grad_product: Tensor, *theta: Tensor
    ) -> tuple[Tensor, ...]:
        """See `Products`."""
        weights, biases, _ = _parts(theta)
        inputs = self._gather(x), self._gather(v)
        grads = self._gather(grad_value), self._gather(grad_product)
        grad_x, grad_weights, grad_biases = rows.gradients(*inputs, *grads, weights, biases)
        grad_last = grad_value.transpose(0, 1).flatten(1).sum(1)
        return self._scatter(grad_x), *grad_weights, *grad_biases, grad_last

    def _event(self, value: Tensor, last: Tensor) -> Tensor:
        event = self._scatter(value)
        return event + last.view(-1, *[1] * (event.dim() - 2))


def _parts(theta: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Weights, biases between them, and the last bias."""
    half = len(theta) // 2
    return [*theta[:half]], [*theta[half:-1]], theta[-1]
