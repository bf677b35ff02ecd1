"""What an index does to z: a map of few parameters h, which a network reads from u.

    affine     z' = e^s ⊙ (z + t),                h = (s, t)         log|det ∂z'/∂z| = Σ_i s_i
    bounded    the same with S tanh(s/S) in place of s, so that no step stretches by more than e^S, S = 2
    planar     z' = z + â tanh(wᵀz + b),          h = (a, w, b)      log|det ∂z'/∂z| = log(1 + wᵀâ sech²(wᵀz + b))

where â is a, corrected so that the planar map is invertible (`bijections.planar`). Each starts as the identity.

References: Cornish, Caterini, Deligiannidis, Doucet, "Relaxing bijectivity constraints with continuously indexed
normalising flows", ICML 2020 (https://arxiv.org/abs/1909.13833); for planar maps: Rezende, Mohamed, "Variational
inference with normalizing flows", ICML 2015 (https://arxiv.org/abs/1505.05770).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..bijections.planar import planar_forward, planar_inverse
from ..bijections.univariate import soft_clamp

__all__ = ["ACTIONS", "Action", "AffineAction", "BoundedAction", "PlanarAction"]


class Action(ABC):
    """An invertible map of z (batch, D), given parameters h (batch, size) of each row's own."""

    #: Whether each number of z has parameters of its own, which for an image are images too.
    pointwise = False
    #: Largest residual that the last `inverse` left; None if it is in closed form.
    inverse_residual: float | None = None

    @abstractmethod
    def size(self, features: int) -> int:
        """How many parameters a row has for D = `features`."""

    def initial(self, features: int) -> Tensor:
        """h at first, (size,): the action is then exactly the identity."""
        return torch.zeros(self.size(features))

    @abstractmethod
    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """z ↦ z' (batch, D) and the log-determinant in nats, (batch,): the normalising direction."""

    @abstractmethod
    def inverse(self, z: Tensor, h: Tensor) -> Tensor:
        """z' ↦ z.

        Raises:
            ConvergenceError: An iterative inverse missed its tolerance.
        """


class AffineAction(Action):
    """Scale and shift: z' = e^s ⊙ (z + t)."""

    pointwise = True

    def size(self, features: int) -> int:
        return 2 * features

    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self._parameters(h)
        return torch.exp(s) * (z + t), s.sum(1)

    def inverse(self, z: Tensor, h: Tensor) -> Tensor:
        s, t = self._parameters(h)
        return torch.exp(-s) * z - t

    def _parameters(self, h: Tensor) -> tuple[Tensor, Tensor]:
        s, t = h.chunk(2, dim=1)
        return s, t


class BoundedAction(AffineAction):
    """Scale and shift where |s| < S: z' = e^{S tanh(s/S)} ⊙ (z + t)."""

    bound = 2.0  # as of couplings of images

    def _parameters(self, h: Tensor) -> tuple[Tensor, Tensor]:
        s, t = super()._parameters(h)
        return soft_clamp(s, self.bound), t


class PlanarAction(Action):
    """Move along one direction: z' = z + â tanh(wᵀz + b)."""

    def size(self, features: int) -> int:
        return 2 * features + 1

    def initial(self, features: int) -> Tensor:
        # a = 0 alone makes the identity. With w = b = 0 too, it would be a saddle point: ∂z'/∂a = tanh(wᵀz + b) would
        # vanish with tanh, and the slopes in w and b vanish with a. So w starts at random, each step in its direction.
        h = super().initial(features)
        bound = (6 / (features + 1)) ** 0.5
        h[features : 2 * features].uniform_(-bound, bound)
        return h

    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return planar_forward(z, *self._parameters(z, h))

    def inverse(self, z: Tensor, h: Tensor) -> Tensor:
        z, self.inverse_residual = planar_inverse(z, *self._parameters(z, h))
        return z

    def _parameters(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, w, b = h.split([z.shape[1], z.shape[1], 1], dim=1)
        return a, w, b[:, 0]


#: What `index.action` may be.
ACTIONS: dict[str, type[Action]] = {
    "affine": AffineAction,
    "bounded": BoundedAction,
    "planar": PlanarAction,
}
