"""Memory: how much is free, and a sentence, before any is taken, for what can never have room."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

from ..errors import ConfigError

__all__ = ["COPIES", "IN_A_PASS", "TooLarge", "building", "check_room", "free_bytes", "is_short_of_memory"]

#: Tensors of weights that a model may have, and the share of the machine's memory that they may fill.
MOST_TENSORS, SHARE_OF_WEIGHTS = 100_000, 0.5
#: Of samples, in parts and put together, there are so many at one time; and in a pass through a model of its events.
COPIES, IN_A_PASS = 2, 4
#: Bytes for which there always is room.
LITTLE = 2**26
#: What makes a tensor from its size alone; and how many numbers there are at most, from those that say the size.
BY_SIZE: dict[Any, Callable[[list[int]], int]] = {
    **dict.fromkeys((torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn), math.prod),
    **dict.fromkeys((torch.randperm, torch.arange), lambda sizes: max(sizes, default=0)),
    torch.eye: lambda sizes: max(sizes, default=0) ** 2,
}
#: How many times as many numbers as are saved of a model, and how many more, may be made on its way.
SLACK = 10, 2**20


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on a device; None if the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return _meminfo("MemAvailable")


def check_room(numbers: int, what: str, bytes_each: int = 4) -> None:
    """Refuse what needs more memory than this machine has.

    Arguments:
        numbers: How many numbers are to be in memory at one time.
        what: What to call them: "n = 1000000000000 samples".
        bytes_each: Of a number.

    Raises:
        ConfigError: They have no room.
    """
    needed = numbers * bytes_each
    total = _meminfo("MemTotal") if needed > LITTLE else None
    if total is not None and needed > total:
        raise ConfigError(f"{what} would take {needed / 2**30:,.0f} GiB, and this machine has {total / 2**30:,.0f} GiB")


class TooLarge(ConfigError):
    """A model has more numbers than it may."""


class _Sizes(TorchFunctionMode):
    """Refuses new tensors of more than `most` numbers before they are made."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in BY_SIZE and BY_SIZE[func](_numbers(args or tuple(kwargs.values()))) > self.most:
            raise _too_large()
        return func(*args, **kwargs)


def _numbers(sizes: Sequence[Any]) -> list[int]:
    """The whole numbers among what says how large a tensor is, by themselves or in a list."""
    flat = sizes[0] if len(sizes) and isinstance(sizes[0], Sequence) else sizes
    return [size for size in flat if isinstance(size, int)]


@contextmanager
def building(most: int | None = None) -> Iterator[None]:
    """Inside, modules are made; what would never fit is refused as soon as that is known.

    Arguments:
        most: How many numbers are saved of them, if they are; by default as many as this machine's memory holds.

    Raises:
        TooLarge: Their weights and buffers have far more, or no room.
    """
    total, tensors, numbers = _meminfo("MemTotal"), 0, 0
    limit = int(SHARE_OF_WEIGHTS * (2**62 if total is None else total)) // 4
    limit = limit if most is None else SLACK[0] * most + SLACK[1]

    def count(module: nn.Module, name: str, weight: Tensor | None) -> None:
        nonlocal tensors, numbers
        tensors, numbers = tensors + 1, numbers + (0 if weight is None else weight.numel())
        if tensors > MOST_TENSORS or numbers > limit:
            raise _too_large()

    hooks = register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)
    try:
        with _Sizes(limit):
            yield
    except (RuntimeError, MemoryError) as error:
        if not is_short_of_memory(error):
            raise
        raise _too_large() from error
    finally:
        for hook in hooks:
            hook.remove()


def _too_large() -> ConfigError:
    return TooLarge("the model is too large for the memory of this machine: lower its depth, or its networks' sizes")


def is_short_of_memory(error: BaseException) -> bool:
    """Whether this is what a device says that has no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _meminfo(name: str) -> int | None:
    """A line of Linux's table of memory, in bytes; None elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration):
        return None
