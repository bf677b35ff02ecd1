"""A mixture of Gaussians that is fitted before training, and trained with the flow.

    p_0(z) = Σ_k w_k N(z; μ_k, Σ_k),        y_k(z) = S_k P_kᵀ (z − μ_k) + b_k,        Σ_k⁻¹ = P_k P_kᵀ at the start
    log p_0(z) = log Σ_k w_k |det S_k P_k| exp(−½ |y_k(z)|²) (2π)^{−D/2}

Expectation–maximisation fits w, μ and P to what the untrained flow makes of the training data; validation chooses how
many components there are. Where that flow is the identity, as maf and splines are, the model starts as the mixture that
scikit-learn would give. Training moves w, b and the triangular S, which begin at b = 0, S = I: each component in units
of its own width, so that one learning rate serves thin and wide ones.

References: Dempster, Laird, Rubin, "Maximum likelihood from incomplete data via the EM algorithm", JRSS B 1977; as the
base of a flow: Izmailov, Kirichenko, Finzi, Wilson, "Semi-supervised learning with normalizing flows", ICML 2020
(https://arxiv.org/abs/1912.13025).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..cif.base_density import BaseDensity
from ..cif.gaussian import LOG_SQRT_2PI
from ..config.fields import registered, setting
from ..errors import ConfigError
from ..io.optional import need
from ..registry import BASES
from .base import BaseConfig, Mixture

__all__ = ["GaussianMixture", "best_mixture"]

#: Numbers of an event, at most: a component has half of their square.
MOST_DIMENSIONS = 100
#: Training data a component at least.
ROWS = 5
#: What is added to variances, of standardised data; of more data than FEW, only the first.
REGULARISATION, FEW = (1e-6, 1e-4, 1e-2, 1e-1), 5_000
#: Numbers of components that are tried: powers of two, and what lies halfway.
SIZES = sorted({2**k for k in range(11)} | {3 * 2**k for k in range(9)})
#: Sizes in a row without success that end the search; first guesses of the best sizes.
MISSES, GUESSES = 3, 4


@registered(BASES, "mixture")
class MixtureConfig(BaseConfig):
    """Mixture of Gaussians, fitted before training, then trained with the flow."""

    components: int = setting(64, "Gaussians, at most; validation chooses how many of them", ge=1, le=1024)

    def build(self, shape: Sequence[int]) -> BaseDensity:
        if math.prod(shape) > MOST_DIMENSIONS:
            raise ConfigError(
                f"base = mixture is not possible: its matrices are for events of at most {MOST_DIMENSIONS} numbers, "
                f"and z_0 has the shape {tuple(shape)}; choose base=normal"
            )
        return GaussianMixture(shape, self.components)


class GaussianMixture(Mixture):
    """Σ_k w_k N(μ_k, Σ_k); before it is fitted, N(0, I).

    Arguments:
        shape: Shape of z_0.
        components: How many there may be.
    """

    means: Tensor
    factors: Tensor

    def __init__(self, shape: Sequence[int], components: int) -> None:
        super().__init__(shape, components)
        size = math.prod(shape)
        self.register_buffer("means", torch.zeros(components, size))  # μ
        self.register_buffer("factors", torch.eye(size).repeat(components, 1, 1))  # P, upper triangular
        # No matrices to an optimiser: each number is one of its own.
        self.logits = nn.Parameter(torch.zeros(components))
        self.shift = nn.Parameter(torch.zeros(components * size))  # b
        self.log_scale = nn.Parameter(torch.zeros(components * size))  # the logarithm of the diagonal of S
        self.below = nn.Parameter(torch.zeros(components * size * (size - 1) // 2))  # what stands below it

    def describe(self) -> str:
        fitted = f"{self.used} Gaussians" if self.fitted else f"at most {self.most} Gaussians, not fitted yet"
        return f"p_0: mixture of {fitted}"

    def log_prob(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):  # these products are log-densities, and no network's
            scale, offset, log_weights = self._components()
            components, size, _ = scale.shape
            y = torch.addmm(offset.reshape(-1), z.flatten(1).to(scale), scale.permute(1, 0, 2).reshape(size, -1))
        squares = y.square().view(-1, components, size).sum(2)
        return torch.logsumexp(torch.add(log_weights, squares, alpha=-0.5), 1)

    @torch.no_grad()
    def draw(self, n: int, like: Tensor) -> Tensor:
        scale, offset, _ = self._components()
        chosen = torch.multinomial(torch.softmax(self.logits[: self.used], 0), n, replacement=True)
        y = torch.randn((n, scale.shape[1]), dtype=like.dtype, device=like.device) - offset[chosen].to(like)
        inverse = torch.linalg.inv(scale.double()).to(like)
        z = torch.empty_like(y)
        for k in range(len(inverse)):
            rows = chosen == k
            z[rows] = y[rows] @ inverse[k]
        return z.unflatten(1, self.shape)

    def _components(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each component: A_k with y = z A_k + c_k, (K, D, D); c_k, (K, D); log w_k |det A_k| (2π)^{−D/2}, (K,)."""
        count, size = self.used, self.means.shape[1]
        factors, pairs = self.factors[:count], size * (size - 1) // 2
        log_scale = self.log_scale.view(-1, size)[:count]
        triangle = torch.diag_embed(torch.exp(log_scale))
        if pairs:
            rows, columns = torch.tril_indices(size, size, -1, device=triangle.device)
            below = self.below.view(-1, pairs)[:count]
            triangle = triangle.flatten(1).index_copy(1, size * rows + columns, below).view_as(triangle)
        scale = factors @ triangle.mT
        offset = self.shift.view(-1, size)[:count] - torch.einsum("kd,kde->ke", self.means[:count], scale)
        log_det = factors.diagonal(dim1=1, dim2=2).log().sum(1) + log_scale.sum(1)
        return scale, offset, torch.log_softmax(self.logits[:count], 0) + log_det - size * LOG_SQRT_2PI

    def fit(self, train: Tensor, valid: Tensor, seed: int) -> None:
        """Expectation–maximisation, with as many components as validation likes best.

        Arguments and errors as of `BaseDensity.fit`.
        """
        numbers, held_out = (z.detach().flatten(1).double().cpu().numpy() for z in (train, valid))
        mean, std = numbers.mean(0), numbers.std(0)
        std[std == 0] = 1
        found = best_mixture((numbers - mean) / std, (held_out - mean) / std, self.most, seed)
        count = int(found.n_components)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.logits[:count] = torch.from_numpy(np.log(np.maximum(found.weights_, np.finfo(np.float32).tiny)))
            self.means[:count] = torch.from_numpy(mean + std * found.means_)
            self.factors[:count] = torch.from_numpy(found.precisions_cholesky_ / std[:, None])
        self.used = count


def best_mixture(train: NDArray[Any], valid: NDArray[Any], most: int, seed: int) -> Any:
    """scikit-learn's mixture, of those with up to so many components, that the validation data like best.

    Sizes 1, 2, 3, 4, 6, 8, 12, … are tried, until three in a row bring nothing; then the best of them and those beside
    it, from other first guesses.

    Arguments:
        train, valid: Standardised vectors, (N, D).
        most: Components, at most.
        seed: Of the first guesses.
    """
    sklearn = need("sklearn.mixture", "a mixture of Gaussians")
    judges = valid if len(valid) else train
    sizes = [k for k in SIZES if k == 1 or (k <= most and k * ROWS <= len(train))]

    def fitted(size: int, added: float, guess: int) -> tuple[float, Any]:
        model = sklearn.GaussianMixture(size, reg_covar=added, random_state=seed + guess)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it did not converge
            model.fit(train)
        return model.score(judges), model

    found = list[tuple[float, Any]]()
    for size in sizes:
        tried = [fitted(size, added, 0) for added in REGULARISATION[: None if len(train) <= FEW else 1]]
        found.append(max(tried, key=_score))
        if len(found) > MISSES and max(found, key=_score) not in found[-MISSES:]:
            break
    best = max(found, key=_score)
    at = found.index(best)
    for _, near in found[max(0, at - 1) : at + 2]:
        if near.n_components > 1:
            found += [fitted(near.n_components, near.reg_covar, guess) for guess in range(1, GUESSES)]
    return max(found, key=_score)[1]


def _score(found: tuple[float, Any]) -> float:
    return found[0]
