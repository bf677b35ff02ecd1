"""A model as a `torch.distributions.Distribution`, for code that asks for one."""

from __future__ import annotations

from typing import ClassVar, TypeAlias

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from ..cif.model import Model

__all__ = ["FlowDistribution"]

Shape: TypeAlias = Size | list[int] | tuple[int, ...]


class FlowDistribution(Distribution):
    """The density of a model: `batch_shape` is (), `event_shape` that of an event.

    Arguments:
        model: Its weights are shared, not copied: the distribution changes as the model is trained.
        importance_samples: m of `log_prob`, where that is the estimate IWAE_m.

    Example:
        >>> import cifrun
        >>> dist = cifrun.Flow("realnvp", dim=2).distribution()
        >>> dist.log_prob(dist.sample((3, 4))).shape
        torch.Size([3, 4])
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, model: Model, importance_samples: int = 100) -> None:
        self.model = model
        self.importance_samples = importance_samples
        super().__init__(event_shape=Size(model.shape), validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws can be differentiated in the weights: not those of pixels of 0 and 1."""
        return not any(step.bijection.stochastic for step in self.model.steps)

    @property
    def support(self) -> constraints.Constraint:
        """All of space."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, (…), for value (…, *event_shape). Raises `ValueError` for another shape."""
        shape = value.shape[: value.ndim - len(self.event_shape)]
        if value.shape[len(shape) :] != self.event_shape:
            raise ValueError(
                f"value has the shape {tuple(value.shape)}, where the last of it should be {self.event_shape}"
            )
        flat = value.reshape(-1, *self.event_shape)
        return self.model.log_prob(flat, self.importance_samples).reshape(shape)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Independent draws, (*sample_shape, *event_shape)."""
        with torch.no_grad():
            return self._shaped(self.model.sample(Size(sample_shape).numel()), sample_shape)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws that can be differentiated in the weights. Raises `NotImplementedError` if they have no derivative."""
        return self._shaped(self.model.rsample(Size(sample_shape).numel()), sample_shape)

    def _shaped(self, draws: Tensor, sample_shape: Shape) -> Tensor:
        return draws.reshape(*sample_shape, *self.event_shape)
