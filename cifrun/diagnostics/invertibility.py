"""How near to non-invertible a model has become: Lipschitz constants, determinants, and round trips.

    Lip F ≥ max_z σ_max(∂F/∂z),     Lip F⁻¹ ≥ max_x σ_max(∂F⁻¹/∂x) = max 1 / σ_min(∂F/∂z),     with u held fixed

The maxima are over points where the model is used: data, with u ~ q, and its own samples, with u ~ p. Only ∂F⁻¹/∂x is
needed, as that of F at z = F⁻¹(x) is its inverse matrix; so an inverse that is a search never has to be differentiated.
F⁻¹ is a composition of steps. A first one that standardises the data is left out: it is not trained, and constants with
it would be in the units of the data, as those of an income. Up to 64 dimensions each step's Jacobian is taken whole, by
one vector–Jacobian product a row, and they are multiplied; above, the extreme singular values of the product come from
Lanczos' bidiagonalisation by products with it and its transpose.

If the supports of p_0 and of the data are not homeomorphic, a flow approaches the data in distribution only if the
bi-Lipschitz constant max(Lip F, Lip F⁻¹) goes to infinity. The maps F(·; u) of a CIF need not.

References: Cornish, Caterini, Deligiannidis, Doucet, "Relaxing bijectivity constraints with continuously indexed
normalising flows", ICML 2020 (https://arxiv.org/abs/1909.13833); Behrmann, Vicol, Wang, Grosse, Jacobsen,
"Understanding and mitigating exploding inverses in invertible neural networks", AISTATS 2021
(https://arxiv.org/abs/2006.09347); Golub, Kahan, "Calculating the singular values and pseudo-inverse of a matrix",
SIAM J. Numer. Anal. 1965.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from ..bijections.preprocess.standardize import Centred
from ..cif.model import Model
from ..cif.paths import Path, reconstruct
from ..errors import ConvergenceError

#: Up to this many dimensions Jacobians are taken whole.
EXACT_UP_TO = 64
#: Steps of the bidiagonalisation above: each costs a product with the Jacobian and one with its transpose.
LANCZOS_STEPS = 30
#: At most so many depths are looked at where Jacobians are not taken whole.
MOST_DEPTHS = 8
#: Beside its maximum, a constant's value that all but one point in a thousand stay below.
QUANTILE = 0.999

Product = Callable[[Tensor], Tensor]


def standardising(model: Model) -> int:
    """How many steps, from the data, only standardise them; not all of a model's."""
    return int(isinstance(model.steps[0].bijection, Centred) and len(model.steps) > 1)


# --- Jacobians --------------------------------------------------------------------------------------------------------


class _Steps:
    """The steps of F⁻¹(·; u) at the points of a path, in one graph, of which each step can be differentiated alone."""

    def __init__(self, model: Model, path: Path) -> None:
        model.prepare()
        self._transposed: dict[int, tuple[Tensor, Tensor]] = {}
        with torch.inference_mode(False), torch.enable_grad():
            x = path.x.detach().clone().requires_grad_()
            self.ends = list(pairwise([x, *(moved.z for moved in model.inward(x, path.u))]))  # z_l, z_{l−1}

    def vjp(self, step: int, w: Tensor) -> Tensor:
        """(∂z_{l−1}/∂z_l)ᵀ w."""
        start, below = self.ends[step]
        return torch.autograd.grad(below, start, w.reshape(below.shape), retain_graph=True)[0]

    def jvp(self, step: int, v: Tensor) -> Tensor:
        """(∂z_{l−1}/∂z_l) v: what the linear map w ↦ (∂z_{l−1}/∂z_l)ᵀ w, differentiated in turn, does to v."""
        start, below = self.ends[step]
        if step not in self._transposed:
            with torch.inference_mode(False), torch.enable_grad():
                w = torch.zeros_like(below, requires_grad=True)
                self._transposed[step] = w, torch.autograd.grad(below, start, w, create_graph=True)[0]
        w, transposed = self._transposed[step]
        return torch.autograd.grad(transposed, w, v.reshape(start.shape), retain_graph=True)[0]


def step_jacobians(model: Model, path: Path) -> list[Tensor]:
    """∂z_{l−1}/∂z_l of each step from the data inward at the points of a path, with u held fixed: (batch, D, D)."""
    steps = _Steps(model, path)
    jacobians = []
    for k, (_, below) in enumerate(steps.ends):
        units = torch.eye(math.prod(below.shape[1:])).to(below)
        jacobians.append(torch.stack([steps.vjp(k, w.repeat(len(below), 1)).flatten(1) for w in units], 1))
    return jacobians


def singular_values(model: Model, path: Path) -> tuple[Tensor, Tensor, list[int]]:
    """The extreme singular values of the Jacobians of the first k steps of F⁻¹(·; u), for each depth k.

    Steps are counted behind one that standardises the data.

    Returns:
        Of the composition, and of each step by itself, (depths, batch, 2), largest and smallest; and the depths k. In
        more than 64 dimensions they are estimates, the largest from below and the smallest from above, at 8 depths.
    """
    if math.prod(model.shape) <= EXACT_UP_TO:
        jacobians = step_jacobians(model, path)[standardising(model) :]
        products = accumulate(jacobians, lambda product, jacobian: jacobian @ product)
        return _extremes(products), _extremes(jacobians), list(range(1, len(jacobians) + 1))
    steps = _Steps(model, path)
    before = standardising(model)
    length = len(steps.ends) - before
    depths = sorted({math.ceil(length * (k + 1) / MOST_DEPTHS) for k in range(MOST_DEPTHS)})

    def of(first: int, last: int) -> Tensor:
        def matvec(v: Tensor) -> Tensor:
            for k in range(before + first, before + last):
                v = steps.jvp(k, v)
            return v.flatten(1)

        def rmatvec(w: Tensor) -> Tensor:
            for k in reversed(range(before + first, before + last)):
                w = steps.vjp(k, w)
            return w.flatten(1)

        start = torch.randn_like(path.x).flatten(1)
        return torch.stack(extreme_singular_values(matvec, rmatvec, start, LANCZOS_STEPS), -1)

    composed = [of(0, depth) for depth in depths]
    single = [of(a, b) for a, b in zip([0, *depths], depths, strict=False)]
    return torch.stack(composed), torch.stack(single), depths


def _extremes(matrices: Iterable[Tensor]) -> Tensor:
    return torch.stack([torch.linalg.svdvals(matrix)[:, [0, -1]] for matrix in matrices])


def extreme_singular_values(matvec: Product, rmatvec: Product, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """The largest and the smallest singular value of a linear map A a row, by Golub and Kahan's bidiagonalisation.

        A V = U B,    Aᵀ U = V Bᵀ + …,    B upper bidiagonal, with U and V kept orthogonal by hand

    B's singular values lie between those of A: its largest reaches that of A at least as fast as a power iteration of
    as many products, of which it is the best use, and its smallest the other end, more slowly; with D steps they are
    equal.

    Arguments:
        matvec, rmatvec: v ↦ A v and w ↦ Aᵀ w, (batch, D) → (batch, D).
        start: Where to start, (batch, D).
        steps: Products with A and with Aᵀ, at most D.
    """
    steps = min(steps, start.shape[1])
    tiny = torch.finfo(start.dtype).tiny
    v = start / start.norm(dim=1, keepdim=True)
    left, right = [], [v]
    raw = matvec(v)
    alphas, betas = [raw.norm(dim=1)], []
    left.append(raw / alphas[0].clamp_min(tiny)[:, None])
    ended = torch.zeros_like(alphas[0], dtype=torch.bool)
    for _ in range(steps - 1):
        v = _orthogonal(rmatvec(left[-1]), right)
        beta = v.norm(dim=1)
        # The start lay in a proper invariant subspace (of the identity every line is one), and all of it is known.
        ended = ended | (beta <= 64 * torch.finfo(start.dtype).eps * alphas[0])
        right.append(torch.where(ended[:, None], 0, v / beta.clamp_min(tiny)[:, None]))
        u = _orthogonal(matvec(right[-1]), left)
        alpha = u.norm(dim=1)
        left.append(torch.where(ended[:, None], 0, u / alpha.clamp_min(tiny)[:, None]))
        # |A v| for a unit v lies between the extremes: it changes neither.
        alphas.append(torch.where(ended, alphas[0], alpha))
        betas.append(torch.where(ended, 0, beta))
    matrix = torch.diag_embed(torch.stack(alphas, 1))
    if betas:
        matrix = matrix + torch.diag_embed(torch.stack(betas, 1), offset=1)
    values = torch.linalg.svdvals(matrix)
    return values[:, 0], values[:, -1]


def _orthogonal(v: Tensor, basis: Sequence[Tensor]) -> Tensor:
    """v (batch, D) less its part in the span of the basis; twice, as once leaves what rounding made."""
    q = torch.stack(list(basis), 2)
    for _ in range(2):
        v = v - (q @ (q.mT @ v[..., None]))[..., 0]
    return v


# --- what is reported -------------------------------------------------------------------------------------------------


def ceilings(model: Model) -> list[float] | None:
    """A bound on the bi-Lipschitz constant of the first k steps, for k = 1 … L, behind one that standardises the data;
    None where a step has none.

    A product of the bounds of the steps: (1/(1−κ))^k for residual blocks. An index has none, so a CIF has none.
    """
    bounds, total = [], 1.0
    for step in list(model.steps)[standardising(model) :]:
        bound = step.bijection.lipschitz_ceiling
        if bound is None or step.index is not None:
            return None
        total *= bound
        bounds.append(total)
    return bounds


def lipschitz(model: Model, paths: Sequence[Path]) -> dict[str, Any]:
    """Lipschitz constants and determinants over the points of some paths, at which they are lower bounds.

    Arguments:
        model: In double precision, if what is small is to be seen.
        paths: Data with u ~ q, samples with u ~ p.

    Returns:
        lip_f, lip_f_inverse: Largest singular values, and with "_q999" what all but one point in a thousand stay below;
        bi_lipschitz: the larger of the two;
        lipschitz_ceiling: the bound that the architecture sets, where it does;
        lipschitz_by_depth: a row for each depth k, counted in steps from the data, or behind the one that standardises
        them: "lip_f" and "lip_f_inverse" of the first k steps, "product_f" and "product_f_inverse", the products of
        each step's own constant, and "ceiling".
    """
    of_all, of_each, each_depths = zip(*(singular_values(model, path) for path in paths), strict=True)
    inverse, smallest = torch.cat(of_all, 1).unbind(-1)  # of F⁻¹, (depths, points)
    step_inverse, step_smallest = torch.cat(of_each, 1).unbind(-1)
    forward = 1 / smallest
    finite = (inverse.isfinite() & forward.isfinite()).all(0)
    if not finite.all():
        raise ConvergenceError(f"Jacobians are singular or not finite at {(~finite).sum()} of {len(finite)} points")
    columns = {
        "lip_f": forward.amax(1),
        "lip_f_inverse": inverse.amax(1),
        "product_f": (1 / step_smallest).amax(1).cumprod(0),
        "product_f_inverse": step_inverse.amax(1).cumprod(0),
    }
    bounds = ceilings(model)
    rows: list[dict[str, Any]] = []
    for k, depth in enumerate(each_depths[0]):
        rows.append({"depth": depth, **{name: column[k].item() for name, column in columns.items()}})
        if bounds is not None:
            rows[-1]["ceiling"] = bounds[depth - 1]
    result: dict[str, Any] = {
        "lip_f": rows[-1]["lip_f"],
        "lip_f_q999": forward[-1].quantile(QUANTILE).item(),
        "lip_f_inverse": rows[-1]["lip_f_inverse"],
        "lip_f_inverse_q999": inverse[-1].quantile(QUANTILE).item(),
        "bi_lipschitz": max(rows[-1]["lip_f"], rows[-1]["lip_f_inverse"]),
        "lipschitz_by_depth": rows,
    }
    if bounds is not None:
        result["lipschitz_ceiling"] = bounds[-1]
    return result


def log_abs_det(model: Model, paths: Sequence[Path]) -> dict[str, float]:
    """The smallest and the largest log|det ∂F/∂z| in nats over the points of some paths, from the steps' own terms."""
    with torch.no_grad():
        terms = ([t for moved in model.inward(path.x, path.u) for t in moved.log_dets] for path in paths)
        values = [-torch.stack(of_path).sum(0) for of_path in terms]
    low, high = torch.cat(values).aminmax()
    return {"log_abs_det_min": low.item(), "log_abs_det_max": high.item()}


def round_trip(model: Model, x: Tensor) -> float:
    """The largest |F(F⁻¹(x; u); u) − x| / (1 + |x|) in any coordinate of any x (batch, *shape), with u ~ q.

    Raises:
        ConvergenceError: F has no inverse that can be found, or one that is not finite.
    """
    back = reconstruct(model, x)
    scale = 1 + x.abs().flatten(1).amax(1)
    error = (back - x).abs().flatten(1).amax(1) / scale
    if bad := int((~error.isfinite()).sum()):
        raise ConvergenceError(f"{bad} of {len(x)} points come back as numbers that are not finite")
    return error.max().item()
