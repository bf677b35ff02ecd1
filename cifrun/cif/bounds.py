"""Whether a flow can see the data: splines and polynomials bend within a bound, and are straight lines outside."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..bijections.permutation import Permutation
from ..bijections.preprocess.standardize import Standardize, Whiten
from ..compute.rng import forked
from .model import Model
from .modes import evaluating

__all__ = ["beyond_bound"]

#: Nats a datum, lost in one coordinate by at least this share of the data, that a user is told of. Of standardised
#: tables with heavy tails, breast_cancer loses the most beyond 3: 0.19. A hundredth of the data that is 30 standard
#: deviations of the others away loses 0.43.
LOSS, SHARE = 0.25, 0.005
#: The share of all numbers that a user is told of where data are not standardised: four times that of a standard normal
#: beyond 3.
TOLD = 0.01
#: Width of the bins in which the density of the data beyond the bound is estimated.
BIN = 0.1
#: Means and standard deviations of data that a user has standardised, at most this far from 0 and this factor from 1.
NEAR, FACTOR = 0.1, 1.25


@torch.no_grad()
def beyond_bound(model: Model, x: Tensor, column: Callable[[int], str] | None = None) -> str | None:
    """A sentence if the data x, (batch, *shape), lose much where the first such step is straight.

    Beyond the bound B the step leaves the density of a standard normal, φ, where the data have p. In one coordinate it
    loses ∫ p log(p/φ) there, nats a datum: nothing if the data are normal, much if a part of them is far from the rest.
    Much is 0.25 nats; of data that are not standardised also 1 % of all numbers. Later steps are not looked at: what
    comes to them changes in training. The model's mode and the random state are left as they are.

    Arguments:
        column: What to call coordinate k of points.
    """
    bounds = [step.bijection.bends_within for step in model.steps]
    first = next((k for k, bound in enumerate(bounds) if bound < math.inf), None)
    if first is None or not len(x):
        return None
    points = x.ndim == 2
    with evaluating(model), forked(0):
        model.prepare()
        for moved in model.inward(x, stop=first):
            x = moved.z
    kind = type(model.steps[0].bijection)
    standard = issubclass(kind, (Standardize, Whiten)) or _is_standard(x)
    beyond = (x.abs() > bounds[first]).flatten(1)
    shares, losses = beyond.double().mean(0), _losses(x.flatten(1), beyond)
    telling = (losses >= LOSS) & (shares >= SHARE)
    if not bool(telling.any()) and (standard or shares.mean() <= TOLD):
        return None
    worst = int(losses.argmax())
    numbers = "numbers in the standardised training data" if standard else "numbers in the training data"
    most, share, loss = "", float(shares[worst]), max(0.0, float(losses[worst]))
    before = [step.bijection for step in model.steps[issubclass(kind, Standardize) : first]]
    if column is not None and points and all(isinstance(step, Permutation) for step in before):
        place = torch.zeros(1, len(shares)).to(x)
        place[0, worst] = 1
        for step in reversed(before):  # in the order of the data
            place = step.inverse(place)
        most = f", and {100 * share:.3g} % of those in {column(int(place.argmax()))},"
    advice = (
        "choose a larger flow.bound, if the flow has one, or do nothing if the tails are heavy and no more"
        if standard
        else "standardise the data (dataset.standardize=true), take out values that are far from the others, or choose "
        "a larger flow.bound, if the flow has one"
    )
    return (
        f"{100 * float(shares.mean()):.3g} % of the {numbers}{most} are beyond ±{bounds[first]:g}, where the "
        f"flow's first step is a straight line and learns nothing, which costs up to about {loss:.2g} nats a datum: "
        f"{advice}"
    )


def _losses(x: Tensor, beyond: Tensor) -> Tensor:
    """∫ p log(p/φ) beyond the bound for each coordinate of x, (batch, D) → (D,), with p from a histogram."""
    rows, columns = beyond.nonzero(as_tuple=True)
    z = x[rows, columns].double()
    place = torch.stack([columns, (z / BIN).floor().clamp(-1e12, 1e12).long()])
    _, inverse, counts = torch.unique(place, dim=1, return_inverse=True, return_counts=True)
    log_ratio = torch.log(counts[inverse] / (BIN * len(x))) + z.square() / 2 + math.log(2 * math.pi) / 2
    return torch.zeros(x.shape[1], dtype=z.dtype, device=x.device).index_add_(0, columns, log_ratio) / len(x)


def _is_standard(x: Tensor) -> bool:
    """Whether each coordinate has about a mean of 0 and a standard deviation of 1."""
    std = x.double().std(0, correction=0)
    return bool(((x.double().mean(0).abs() <= NEAR) & (std <= FACTOR) & (std >= 1 / FACTOR)).all())
