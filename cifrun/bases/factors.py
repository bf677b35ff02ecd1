"""A mixture of factor analysers that is fitted before training, and trained with the flow: for images.

    p_0(z) = Σ_k w_k N(z; μ_k, D_k^½ (I + V_k V_kᵀ) D_k^½),    D_k diagonal, V_k of r columns
    log p_0(z) = log Σ_k w_k |det S_k D_k^{−½}| N(y_k; 0, I + V_k V_kᵀ),    y_k(z) = S_k D_k^{−½} (z − μ_k) + b_k

Expectation–maximisation fits w, μ, D and V to what the untrained flow makes of the training data, from the groups of
k-means; it ends when the validation data like it no better. Training moves w, V, b and the diagonal S, which begin at
b = 0, S = I.

References: Ghahramani, Hinton, "The EM algorithm for mixtures of factor analyzers", technical report CRG-TR-96-1,
University of Toronto 1996; of images: Richardson, Weiss, "On GANs and GMMs", NeurIPS 2018
(https://arxiv.org/abs/1805.12462).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..cif.base_density import BaseDensity
from ..cif.gaussian import LOG_SQRT_2PI
from ..config.fields import registered, setting
from ..io.optional import need
from ..registry import BASES
from .base import BaseConfig, Mixture

__all__ = ["FactorAnalysers", "Fitted", "maximise"]

#: Training data a component at least.
ROWS = 50
#: Rounds of expectation–maximisation, at most; nats a datum that the validation data gain by one that is worth another.
ROUNDS, GAIN = 20, 0.01
#: The least variance of D, of the data's.
LEAST = 1e-4


@registered(BASES, "factors")
class Factors(BaseConfig):
    """Mixture of factor analysers, fitted before training, then trained with the flow: for images."""

    components: int = setting(32, "factor analysers, at most; one for 50 training data", ge=1, le=1024)
    rank: int = setting(16, "r, factors of each", ge=1, le=256)

    def build(self, shape: Sequence[int]) -> BaseDensity:
        return FactorAnalysers(shape, self.components, self.rank)


class Fitted(NamedTuple):
    """A mixture of factor analysers: w_k N(μ_k, D_k^½ (I + V_k V_kᵀ) D_k^½)."""

    weights: Tensor  # (K,)
    means: Tensor  # (K, D)
    scales: Tensor  # D^½, (K, D)
    loadings: Tensor  # V, (K, D, r)

    def log_probs(self, z: Tensor) -> Tensor:
        """log w_k N(z; …), (N, K), of z (N, D) in float64, where a difference of squares does no harm."""
        precisions = self.scales.square().reciprocal()
        squares = z.square() @ precisions.T - 2 * z @ (precisions * self.means).T
        squares += (precisions * self.means.square()).sum(1)
        inward = self.loadings / self.scales[..., None]
        scores = torch.einsum("nd,kdr->knr", z, inward) - torch.einsum("kd,kdr->kr", self.means, inward)[:, None]
        inner, log_det = _inner(self.loadings)
        squares -= torch.linalg.solve_triangular(inner, scores.mT, upper=False).square().sum(1).T
        constants = self.weights.log() - self.scales.log().sum(1) - 0.5 * log_det - z.shape[1] * LOG_SQRT_2PI
        return constants - 0.5 * squares


class FactorAnalysers(Mixture):
    """Σ_k w_k N(μ_k, D_k^½ (I + V_k V_kᵀ) D_k^½); before it is fitted, N(0, I).

    Arguments:
        shape: Shape of z_0.
        components: How many there may be.
        rank: r, columns of V; at most as many as an event has numbers.
    """

    means: Tensor
    scales: Tensor

    def __init__(self, shape: Sequence[int], components: int, rank: int) -> None:
        super().__init__(shape, components)
        size = math.prod(shape)
        self.rank = min(rank, size)
        self.register_buffer("means", torch.zeros(components, size))  # μ
        self.register_buffer("scales", torch.ones(components, size))  # the diagonal of D^½
        # No matrices to an optimiser: each number is one of its own.
        self.logits = nn.Parameter(torch.zeros(components))
        self.shift = nn.Parameter(torch.zeros(components * size))  # b
        self.log_scale = nn.Parameter(torch.zeros(components * size))  # the logarithm of the diagonal of S
        self.loadings = nn.Parameter(torch.zeros(components * size * self.rank))  # V

    def describe(self) -> str:
        most = f"at most {self.most} factor analysers, not fitted yet"
        return f"p_0: mixture of {f'{self.used} factor analysers' if self.fitted else most} of rank {self.rank}"

    def log_prob(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):  # these products are log-densities, and no network's
            shift, log_scale, loadings = self._trained()
            z, means, scales = z.flatten(1).to(shift), self.means[: self.used, None], self.scales[: self.used, None]
            y = torch.addcmul(shift[:, None], (z - means) / scales, log_scale.exp()[:, None])  # (K, batch, D)
            inner, log_det = _inner(loadings)
            factors = torch.linalg.solve_triangular(inner, (y @ loadings).mT, upper=False)  # (K, r, batch)
            squares = y.square().sum(2) - factors.square().sum(1)
            constants = log_scale.sum(1) - self.scales[: self.used].log().sum(1) - 0.5 * log_det
            constants = constants + torch.log_softmax(self.logits[: self.used], 0) - z.shape[1] * LOG_SQRT_2PI
        return torch.logsumexp(torch.add(constants[:, None], squares, alpha=-0.5), 0)

    @torch.no_grad()
    def draw(self, n: int, like: Tensor) -> Tensor:
        shift, log_scale, loadings = (trained.to(like) for trained in self._trained())
        chosen = torch.multinomial(torch.softmax(self.logits[: self.used], 0), n, replacement=True)
        y = torch.randn((n, shift.shape[1]), dtype=like.dtype, device=like.device)
        factors = torch.randn((n, self.rank), dtype=like.dtype, device=like.device)
        for k in range(self.used):
            rows = chosen == k
            y[rows] += factors[rows] @ loadings[k].T
        y = (y - shift[chosen]) * torch.exp(-log_scale[chosen])
        return (self.means[chosen].to(like) + self.scales[chosen].to(like) * y).unflatten(1, self.shape)

    def _trained(self) -> tuple[Tensor, Tensor, Tensor]:
        """b and log S, (K, D), and V, (K, D, r), of the components that are used."""
        size = self.means.shape[1]
        shift, log_scale = (values.view(-1, size)[: self.used] for values in (self.shift, self.log_scale))
        return shift, log_scale, self.loadings.view(-1, size, self.rank)[: self.used]

    def fit(self, train: Tensor, valid: Tensor, seed: int) -> None:
        """k-means, then expectation–maximisation for as long as the validation data gain.

        Arguments and errors as of `BaseDensity.fit`.
        """
        rows, held_out = (z.detach().flatten(1).double().cpu() for z in (train, valid))
        mean, std = rows.mean(0), rows.std(0, correction=0)
        std[std == 0] = 1
        rows, held_out = (rows - mean) / std, (held_out - mean) / std
        judges = held_out if len(held_out) else rows
        count = max(1, min(self.most, len(rows) // ROWS))
        found = _groups(rows, count, self.rank, seed)
        score = found.log_probs(judges).logsumexp(1).mean()
        for _ in range(ROUNDS):
            better = maximise(found, rows)
            before, score = score, better.log_probs(judges).logsumexp(1).mean()
            if not score > before:
                break
            found = better
            if score < before + GAIN:
                break
        count = len(found.weights)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.logits[:count] = found.weights.log()
            self.means[:count] = mean + std * found.means
            self.scales[:count] = std * found.scales
            self.loadings[: found.loadings.numel()] = found.loadings.flatten()
        self.used = count


def maximise(found: Fitted, z: Tensor) -> Fitted:
    """One round of expectation–maximisation, which never lowers the likelihood of the data.

    First weights and means, given who belongs to whom; then D and V, given the factors too (an alternating one:
    Meng, van Dyk, "The EM algorithm: an old folk-song sung to a fast new tune", JRSS B 1997).

    Arguments:
        z: Data of about mean 0 and variance 1, (N, D), in float64.
    """
    belongs = torch.softmax(found.log_probs(z), 1)
    weights, means, scales, loadings = (part.clone() for part in found)
    for k, share in enumerate(belongs.T):
        rows = share > 1e-8
        w, size = share[rows], share.sum().clamp(min=1e-12)
        weights[k] = size / len(z)
        if size < 1:  # nobody's
            continue
        means[k] = w @ z[rows] / size
        y = (z[rows] - means[k]) / found.scales[k]  # N(0, I + V Vᵀ), if the model is true
        inner, _ = _inner(found.loadings[k])
        factors = torch.cholesky_solve((y @ found.loadings[k]).T, inner).T  # their mean; their covariance is M⁻¹
        of_both = (w[:, None] * y).T @ factors / size
        of_factors = torch.cholesky_inverse(inner) + (w[:, None] * factors).T @ factors / size
        v = torch.linalg.solve(of_factors, of_both, left=False)
        left = (w @ y.square() / size - (v * of_both).sum(1)).clamp(min=0) * found.scales[k].square()
        scales[k] = left.clamp(min=LEAST).sqrt()
        loadings[k] = v * (found.scales[k] / scales[k])[:, None]
    return Fitted(weights / weights.sum(), means, scales, loadings)


def _groups(z: Tensor, count: int, rank: int, seed: int) -> Fitted:
    """The groups of k-means: of each its mean, and the principal components of what deviates from it."""
    cluster, decomposition = (
        need(f"sklearn.{part}", "a mixture of factor analysers") for part in ("cluster", "decomposition")
    )
    labels = torch.from_numpy(cluster.KMeans(count, n_init=1, random_state=seed).fit(z.numpy()).labels_)
    size, parts = z.shape[1], list[tuple[Tensor, ...]]()
    for k in range(count):
        rows = z[labels == k]
        v = torch.zeros(size, rank, dtype=z.dtype)
        if (kept := min(rank, len(rows) - 1, size)) > 0:
            found = decomposition.PCA(kept, random_state=seed).fit(rows.numpy())
            v[:, :kept] = torch.from_numpy(found.components_.T * found.explained_variance_**0.5)
        scale = (rows.var(0, correction=0) - v.square().sum(1)).clamp(min=LEAST).sqrt()
        parts.append((torch.tensor(len(rows) / len(z), dtype=z.dtype), rows.mean(0), scale, v / scale[:, None]))
    return Fitted(*map(torch.stack, zip(*parts, strict=True)))


def _inner(loadings: Tensor) -> tuple[Tensor, Tensor]:
    """The Cholesky factor of M = I + Vᵀ V, (…, r, r), and log det M, of V (…, D, r)."""
    v = loadings.double()  # M has eigenvalues from 1 to perhaps 10⁷: in single precision it need not stay positive
    inner = torch.linalg.cholesky(torch.eye(v.shape[-1], dtype=v.dtype, device=v.device) + v.mT @ v)
    log_det = 2 * inner.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return inner.to(loadings), log_det.to(loadings)
