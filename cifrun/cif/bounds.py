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

#: The share of numbers beyond the bound from which on a user is told: four times that of a standard normal beyond 3.
#: Where the data are standardised it is what a part far from the rest brings about, more than heavy tails do: beyond 3,
#: the table breast_cancer has 1.2 %, and 1.4 % whitened.
TOLD, TOLD_IF_STANDARD = 0.01, 0.03
#: Means and standard deviations of data that a user has standardised, at most this far from 0 and this factor from 1.
NEAR, FACTOR = 0.1, 1.25


@torch.no_grad()
def beyond_bound(model: Model, x: Tensor, column: Callable[[int], str] | None = None) -> str | None:
    """A sentence if many of the numbers in x, (batch, *shape), are where the first such step is straight.

    Many are 1 % of all, or 3 % of standardised data. Later steps are not looked at: what comes to them changes in
    training. The model's mode and the random state are left as they are.

    Arguments:
        column: What to call coordinate k of points.
    """
    bounds = [step.bijection.bends_within for step in model.steps]
    first = next((k for k, bound in enumerate(bounds) if bound < math.inf), None)
    if first is None or not len(x):
        return None
    with evaluating(model), forked(0):
        model.prepare()
        for moved in model.inward(x, stop=first):
            x = moved.z
    beyond = (x.abs() > bounds[first]).double()
    share = float(beyond.mean())
    kind = type(model.steps[0].bijection)
    standard = issubclass(kind, (Standardize, Whiten)) or _is_standard(x)
    if share <= (TOLD_IF_STANDARD if standard else TOLD):
        return None
    most, numbers = "", "numbers in the standardised training data" if standard else "numbers in the training data"
    before = [step.bijection for step in model.steps[issubclass(kind, Standardize) : first]]
    if column is not None and x.ndim == 2 and all(isinstance(step, Permutation) for step in before):
        for step in reversed(before):  # in the order of the data
            beyond = step.inverse(beyond)
        k = int(beyond.mean(0).argmax())
        most = f", and {100 * float(beyond[:, k].mean()):.3g} % of those in {column(k)},"
    advice = (
        "choose a larger flow.bound, if the flow has one, or do nothing if the tails are heavy and no more"
        if standard
        else "standardise the data (dataset.standardize=true), take out values that are far from the others, or choose "
        "a larger flow.bound, if the flow has one"
    )
    return (
        f"{100 * share:.3g} % of the {numbers}{most} are beyond ±{bounds[first]:g}, where the flow's first step is a "
        f"straight line and learns nothing: {advice}"
    )


def _is_standard(x: Tensor) -> bool:
    """Whether each coordinate has about a mean of 0 and a standard deviation of 1."""
    std = x.double().std(0, correction=0)
    return bool(((x.double().mean(0).abs() <= NEAR) & (std <= FACTOR) & (std >= 1 / FACTOR)).all())
