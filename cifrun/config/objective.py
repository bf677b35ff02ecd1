"""What training maximises, and how its gradient is estimated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic.dataclasses import dataclass

from ..errors import ConfigError
from ..registry import OBJECTIVES
from .checking import name_in
from .fields import STRICT, setting
from .messages import Nested

__all__ = ["ObjectiveConfig"]


@dataclass(config=STRICT)
class ObjectiveConfig:
    """What training maximises."""

    name: Annotated[str, name_in(OBJECTIVES)] = setting("elbo", "name of the objective")
    importance_samples: int = setting(1, "m, draws of u for each datum of a training batch", ge=1)
    gradient: Literal["reparametrised", "stl", "dreg"] = setting(
        "reparametrised",
        "how the gradient of q's networks is estimated: reparametrised, the plain way; or with less variance near the "
        "optimum by stl (of elbo) or dreg (of iwae, rws), which run these networks twice. No matter to a plain flow",
    )

    def __post_init__(self) -> None:
        refused = _refused(self)
        if refused:
            raise Nested(ConfigError(refused))


def _refused(config: ObjectiveConfig) -> str | None:
    """A sentence if the objective has no such estimator, or asks for more draws."""
    objective = OBJECTIVES[config.name]
    gradients, least = getattr(objective, "gradients", ["reparametrised"]), getattr(objective, "least", 1)
    if config.gradient not in gradients:
        return (
            f"objective.gradient = {config.gradient} is not allowed with objective.name = {config.name}, of whose "
            f"gradient it is no unbiased estimate: choose {' or '.join(gradients)}"
        )
    if config.importance_samples < least:
        return (
            f"objective.importance_samples = {config.importance_samples} is not allowed with objective.name = "
            f"{config.name}, which compares draws of u: choose {least} or more"
        )
    return None
