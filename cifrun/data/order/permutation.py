"""Random orders of {0, …, n − 1} that are looked up place by place, for any n.

A keyed permutation is a Feistel network on Z_a × Z_b, a = ⌈√n⌉, b = ⌈n/a⌉, into which {0, …, n − 1} is embedded by
x = L + aR:

    (L, R) ← (R, L + F_j(R) mod a or b in turn),      j = 1 … 8

with F_j a hash of 64 bits and the round's key. Each round can be undone, so the network permutes the ab < n + a points
whatever F_j is; what lands outside of {0, …, n − 1} is put through again until it lands inside, which leaves a
permutation of these n. (J. Black, P. Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002, methods 2 and 3.)
F_j is the mixer of splitmix64 (G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA
2014): the order has no statistical structure, but is no secret.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

__all__ = ["LARGE", "Drawn", "Keyed", "Permutation", "permutation"]

#: From places, (batch,), int64, to what is there, (batch,), int64.
Permutation: TypeAlias = Callable[[Tensor], Tensor]

#: Largest n whose order is drawn as a whole: 64 MiB, three times that for a moment, and a second or so.
LARGE = 2**24


def permutation(count: int, key: int) -> Permutation:
    """A random order of {0, …, count − 1}, a function of both arguments alone. `key` is any integer of 63 bits.

    Up to `LARGE` it is `Drawn`, beyond `Keyed`.
    """
    return Drawn(count, key) if count <= LARGE else Keyed(count, key)


class Drawn:
    """A uniformly random permutation of {0, …, count − 1}, drawn with the seed `key`; or, `inverted`, its inverse.

    It takes 4 bytes of memory for each of them.
    """

    def __init__(self, count: int, key: int, inverted: bool = False) -> None:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(key))
        small = torch.int32 if count <= LARGE else torch.int64
        if inverted:
            self._order = torch.empty(count, dtype=small).scatter_(0, order, torch.arange(count, dtype=small))
        else:
            self._order = order.to(small)

    def __call__(self, places: Tensor) -> Tensor:
        return self._order[places].long()


class Keyed:
    """A pseudo-random permutation of {0, …, count − 1}, chosen by `key`, which takes no memory; count < 2⁶²."""

    def __init__(self, count: int, key: int) -> None:
        self.count = count
        self._a = math.isqrt(count - 1) + 1
        self._b = -(-count // self._a)
        self._keys = np.frombuffer(blake2b(str(key).encode(), digest_size=64).digest(), "<u8")

    def __call__(self, places: Tensor) -> Tensor:
        x = self._network(places.numpy().astype(np.uint64))
        while (outside := x >= self.count).any():
            x[outside] = self._network(x[outside])
        return torch.from_numpy(x.astype(np.int64))

    def _network(self, x: np.ndarray) -> np.ndarray:
        moduli = np.uint64(self._a), np.uint64(self._b)  # operands of one type: others would make it float64
        right, left = np.divmod(x, moduli[0])
        for j, key in enumerate(self._keys):
            left, right = right, (left + (_mixed(right ^ key) >> np.uint64(1))) % moduli[j % 2]
        return left + moduli[0] * right


def _mixed(x: np.ndarray) -> np.ndarray:
    """The output function of splitmix64, a bijection of 64 bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
