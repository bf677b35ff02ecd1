"""What an objective may say of itself beside its formula: how its gradient may be estimated, and from how many draws.

    @OBJECTIVES.register("iwae", importance_samples=10)
    @estimated(reparametrised=Gradient, dreg=DoublyReparametrised)
    def iwae(log_w: Tensor) -> Tensor: ...

A function that says nothing has the plain gradient, by reparametrisation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import update_wrapper

from torch import Tensor

from ..cif.gradients import Gradient
from ..cif.model import Model
from ..errors import ConfigError

__all__ = ["Objective", "estimated", "gradient_of"]


class Objective:
    """A function of log w (m, batch) to (batch,), in nats, with what it says of itself.

    Arguments:
        function: The formula.
        gradients: What `objective.gradient` may be, and the estimator that this is.
        least: The fewest importance samples it makes sense with.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], gradients: Mapping[str, type[Gradient]], least: int = 1
    ) -> None:
        update_wrapper(self, function)
        self.function, self.gradients, self.least = function, gradients, least

    def __call__(self, log_w: Tensor) -> Tensor:
        return self.function(log_w)


def estimated(least: int = 1, **gradients: type[Gradient]) -> Callable[[Callable[[Tensor], Tensor]], Objective]:
    """Decorator: makes an `Objective` of a formula; arguments as there."""
    return lambda function: Objective(function, gradients, least)


def gradient_of(objective: Callable[[Tensor], Tensor], name: str, model: Model) -> type[Gradient]:
    """The estimator of that name.

    Raises:
        ConfigError: The model draws numbers that it can't treat.
    """
    gradient = objective.gradients[name] if isinstance(objective, Objective) else Gradient
    if gradient.indices_alone and any(step.bijection.stochastic for step in model.steps):
        raise ConfigError(
            "objective.name = rws is not allowed with a flow that draws numbers of its own, which are no index: choose "
            "elbo or iwae"
        )
    return gradient
