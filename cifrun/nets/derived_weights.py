"""Weights that are a function of the parameters, computed once for each version of the parameters at inference."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class DerivedWeights(nn.Module):
    """A module whose effective weights are a function `_derive()` of its parameters: a mask, a norm, an exponential.

    With gradients on, `derived()` is computed at every call and belongs to the graph. With gradients off it is computed
    once and kept until a parameter changes, which its version counter tells; evaluation calls a network thousands of
    times between two such changes. What is kept is never saved, copied or pickled, and never is an inference tensor.
    """

    _kept: tuple[list[nn.Parameter], list[int], Any] | None = None

    @abstractmethod
    def _derive(self) -> Any: ...

    def _sources(self) -> list[nn.Parameter]:
        """The parameters that `_derive` looks at."""
        return list(self.parameters(recurse=False))

    def derived(self) -> Any:
        """The effective weights for the parameters as they are now."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._derive()
        parameters = self._sources()
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

    def train(self, mode: bool = True) -> Any:
        """As in `nn.Module`; forgets what was kept, so that a write through `.data` is seen too."""
        self._kept = None
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._kept = None  # a change of device or dtype leaves the version as it is
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_kept", None)
        return state
