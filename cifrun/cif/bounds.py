"""Whether a flow can see the data: splines and polynomials bend within a bound, and are straight lines outside."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..compute.rng import forked
from .model import Model
from .modes import evaluating

__all__ = ["beyond_bound"]

#: The share of numbers beyond the bound from which on a user is told: four times that of a standard normal beyond 3.
TOLD = 0.01


@torch.no_grad()
def beyond_bound(model: Model, x: Tensor) -> str | None:
    """A sentence if more than 1 % of the numbers in x, (batch, *shape), are where the first such step is straight.

    Later steps are not looked at: what comes to them changes in training. The model's mode and the random state are
    left as they are.
    """
    bounds = [step.bijection.bends_within for step in model.steps]
    first = next((k for k, bound in enumerate(bounds) if bound < math.inf), None)
    if first is None or not len(x):
        return None
    with evaluating(model), forked(0):
        model.prepare()
        for moved in model.inward(x, stop=first):
            x = moved.z
    share = float((x.abs() > bounds[first]).double().mean())
    if share <= TOLD:
        return None
    return (
        f"{100 * share:.0f} % of the numbers in the training data are beyond ±{bounds[first]:g}, where the flow's "
        f"first step is a straight line and learns nothing: standardise the data (dataset.standardize=true), take out "
        f"values that are far from the others, or choose a larger flow.bound, if the flow has one"
    )
