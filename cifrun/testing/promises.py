"""What all checks share: a broken promise is an `AssertionError`, and its message one sentence."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..compute.rng import forked
from ..errors import ConfigError

__all__ = ["NotPromised", "close", "gradients_of", "hold", "keep", "pickled", "prepare", "require", "spread_out"]

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


class NotPromised(Exception):
    """The thing makes no such promise; the text says why."""


def require(condition: object, sentence: str) -> None:
    """Nothing if the condition holds.

    Raises:
        AssertionError: It does not; the message is the sentence.
    """
    if not condition:
        raise AssertionError(sentence)


def close(found: Tensor, expected: Tensor, promise: str, *, atol: float, rtol: float = 0.0) -> None:
    """Nothing if |found − expected| ≤ atol + rtol |expected| everywhere.

    Raises:
        AssertionError: It is not, or the shape or the precision is another; the message is the promise, and how far
            from kept it is.
    """

    def sentence(_: str) -> str:
        if found.shape != expected.shape:
            return f"{promise}, but the shapes are {tuple(found.shape)} and {tuple(expected.shape)}"
        if found.dtype != expected.dtype:
            return f"{promise}, but one is {found.dtype} and the other {expected.dtype}"
        worst = float((found - expected).detach().abs().max())
        relative = f" + {rtol:g} of the value" if rtol else ""
        return f"{promise}, but they differ by up to {worst:.2g}, where {atol:g}{relative} is allowed"

    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol, msg=sentence)


def keep(check: Callable[[T], None], thing: T) -> None:
    """Run one check, and leave torch's random state as it was.

    Raises:
        AssertionError: The promise is broken, or could not be looked at for an error; the sentence begins with the name
            of the thing.
        NotPromised: The thing does not make this promise.
        ConfigError: There is no such thing, or it refuses its settings.
    """
    with forked(0):
        try:
            check(thing)
        except (NotPromised, ConfigError):
            raise
        except AssertionError as error:
            raise AssertionError(f"{thing}: {error}") from error
        except Exception as error:
            what, where = f"{type(error).__name__}: {error}".partition("\n")[0], check.__name__.replace("_", " ")
            raise AssertionError(f"{thing}: an error where none belongs ({where}): {what}") from error


def hold(checks: Iterable[Callable[[T], None]], thing: T) -> None:
    """Run all checks of the promises that the thing makes.

    Raises:
        AssertionError: One is broken; the sentence is of the first.
    """
    for check in checks:
        with suppress(NotPromised):
            keep(check, thing)


# --- of modules -------------------------------------------------------------------------------------------------------


def spread_out(module: M, spread: float, seed: int) -> M:
    """The module with N(0, spread²) added to each parameter: a zero that it begins with hides no mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise.to(parameter), alpha=spread)
    return module


def prepare(module: nn.Module) -> None:
    """Bring up to date what layers derive from their weights, as `Model.prepare` does."""
    for part in module.modules():
        if prepare_all := getattr(part, "prepare_all", None):
            prepare_all([part])


def gradients_of(module: nn.Module) -> None:
    """Each parameter has a gradient, and it is finite.

    Raises:
        AssertionError: One has none, or one that is not finite.
    """
    for name, parameter in module.named_parameters():
        require(parameter.grad is not None, f"gradients should reach every parameter, but '{name}' has none")
        if parameter.grad is not None:
            bad = int((~parameter.grad.isfinite()).sum())
            require(not bad, f"gradients should be finite, but that of '{name}' has {bad} values that are not")


def pickled(module: M) -> dict[str, M]:
    """A deep copy and a pickle of a module, by what to call them.

    Raises:
        AssertionError: It can't be pickled.
    """
    try:
        return {"a deep copy": copy.deepcopy(module), "a pickle": pickle.loads(pickle.dumps(module))}
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise AssertionError(f"it should be possible to pickle it, but {' '.join(str(error).split())}") from error
