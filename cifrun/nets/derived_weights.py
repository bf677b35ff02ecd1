"""Weights that are a function of the parameters, computed once for each version of the parameters at inference."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

#: Integers of so many bytes.
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class DerivedWeights(nn.Module):
    """A module whose effective weights are a function `_derive()` of its parameters: a mask, a norm, an exponential.

    With gradients on, `derived()` is computed at every call and belongs to the graph. With gradients off it is computed
    once and kept until a parameter changes, which its version counter tells; evaluation calls a network thousands of
    times between two such changes. What is kept is never saved, copied or pickled, and never is an inference tensor.
    """

    _kept: tuple[list[nn.Parameter], list[int], Any] | None = None

    @abstractmethod
    def _derive(self) -> Any: ...

    def kept_from(self) -> list[nn.Parameter]:
        """The parameters that `_derive` looks at."""
        return list(self.parameters(recurse=False))

    def derived(self) -> Any:
        """The effective weights for the parameters as they are now."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._derive()
        parameters = self.kept_from()
        if any(type(p) is not nn.Parameter or p.is_inference() for p in parameters):  # no version to go by
            return self._derive()
        versions = [p._version for p in parameters]
        if self._kept is not None:
            kept, kept_versions, derived = self._kept
            if kept_versions == versions and all(a is b for a, b in zip(kept, parameters, strict=True)):
                return derived
        with torch.inference_mode(False), torch.no_grad():
            derived = self._derive()
        self._kept = (parameters, versions, derived)
        return derived

    def forget(self) -> None:
        """Take what is kept for that of other parameters."""
        self._kept = None

    def train(self, mode: bool = True) -> Any:
        """As in `nn.Module`; forgets what was kept."""
        self.forget()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self.forget()  # a change of device or dtype leaves the version as it is
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_kept", None)
        return state


class Watch:
    """Sees that weights were written without a trace, as through `.data`: no version counts that, but sums of bits do.

    Arguments:
        modules: Those of them that keep something have `kept_from()`, its parameters, and `forget()`.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._keepers: list[Any] = [module for module in modules if hasattr(module, "kept_from")]
        self._sums: list[int] = []

    @torch.no_grad()
    def forget_if_overwritten(self) -> None:
        """Let all modules forget what they keep if weights are others than at the last call."""
        weights = {id(weight): weight for module in self._keepers for weight in module.kept_from()}.values()
        if not weights:
            return
        sums = torch.stack([weight.view(BITS[weight.element_size()]).sum() for weight in weights]).tolist()
        if sums != self._sums:
            for module in self._keepers:
                module.forget()
        self._sums = sums
