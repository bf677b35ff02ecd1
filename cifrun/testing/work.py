"""What a step of training may not do: wait for a number that the device has not computed yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .flow_cases import FlowCase
from .promises import NotPromised, require

__all__ = ["CHECKS"]


class Reads(TorchDispatchMode):
    """Counts, of the operations inside, those that bring a number to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def a_training_step_waits_for_no_number(case: FlowCase) -> None:
    """Loss and gradient are started as a whole; whether to go on is not decided on numbers of the device."""
    model, x = case.model().train(), case.batch()
    if any(step.bijection.adaptive for step in model.steps):
        raise NotPromised("how much it computes depends on the numbers, as with a solver that chooses its steps")
    model.log_w(x).mean().backward()  # norms look at their first batch
    with Reads() as reads:
        model.log_w(x).mean().backward()
    require(reads.count == 0, f"a step of training should read no number from the device, but reads {reads.count}")


CHECKS: dict[str, Callable[[FlowCase], None]] = {
    check.__name__: check for check in (a_training_step_waits_for_no_number,)
}
