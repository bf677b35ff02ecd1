"""A model as a `torch.distributions.Distribution`, for code that asks for one."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from ..cif.model import Model
from .arguments import dense

__all__ = ["FlowDistribution"]

Shape: TypeAlias = Size | list[int] | tuple[int, ...]


class FlowDistribution(Distribution):
    """The density of a model: `event_shape` is that of an event, and `batch_shape` is (), or what `expand` made it.

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

    def expand(self, batch_shape: Shape, _instance: Distribution | None = None) -> FlowDistribution:
        """The same density for each element of a batch: draws are independent, and `log_prob` broadcasts.

        Arguments:
            batch_shape: What the present `batch_shape` can be broadcast to.

        Raises:
            RuntimeError: It can't be broadcast to that.
        """
        new: Any = self._get_checked_instance(FlowDistribution, _instance)
        new.model, new.importance_samples = self.model, self.importance_samples
        shape = torch.empty(self.batch_shape, device="meta").expand(tuple(batch_shape)).shape
        Distribution.__init__(new, shape, self.event_shape, validate_args=False)
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, (…), for value (…, *event_shape), broadcast with the batch shape.

        Raises:
            TypeError: The value is no tensor.
            ValueError: The value does not end in the event shape, or what is before that can't be broadcast.
        """
        if not isinstance(value, Tensor):
            raise TypeError(
                f"value is a {type(value).__name__}, where a tensor belongs; the model's log_prob takes both"
            )
        value = dense(value, "value")
        shape = value.shape[: max(0, value.ndim - len(self.event_shape))]
        if value.shape[len(shape) :] != self.event_shape:
            raise ValueError(
                f"value has the shape {tuple(value.shape)}, where the last of it should be {tuple(self.event_shape)}"
            )
        try:
            broadcast = torch.broadcast_shapes(shape, self.batch_shape)
        except RuntimeError as error:
            raise ValueError(
                f"value has the shape {tuple(value.shape)}, where {tuple(shape)} can't be broadcast with the batch "
                f"shape {tuple(self.batch_shape)}"
            ) from error
        flat = value.reshape(-1, *self.event_shape)
        return self.model.log_prob(flat, self.importance_samples).reshape(shape).expand(broadcast)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Independent draws, (*sample_shape, *batch_shape, *event_shape).

        Raises:
            ConvergenceError: An iterative inverse missed its tolerance.
        """
        with torch.no_grad():
            shape = self._extended_shape(Size(sample_shape))
            return self.model.sample(self._count(shape)).reshape(shape)

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws as of `sample` that can be differentiated in the weights.

        Raises:
            ConvergenceError: An iterative inverse missed its tolerance.
            NotImplementedError: They have no derivative, as pixels of 0 and 1.
        """
        shape = self._extended_shape(Size(sample_shape))
        return self.model.rsample(self._count(shape)).reshape(shape)

    def _count(self, shape: Size) -> int:
        """How many draws there are in a tensor of that shape."""
        return Size(shape[: len(shape) - len(self.event_shape)]).numel()
