"""Memory: how much is free, and a sentence, before any is taken, for what can never have room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ..errors import ConfigError

__all__ = ["building", "check_room", "free_bytes", "is_short_of_memory"]

#: Tensors of weights that a model may have, and the share of the machine's memory that they may fill.
MOST_TENSORS, SHARE_OF_WEIGHTS = 100_000, 0.5


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
    total, needed = _meminfo("MemTotal"), numbers * bytes_each
    if total is not None and needed > total:
        raise ConfigError(f"{what} would take {needed / 2**30:,.0f} GiB, and this machine has {total / 2**30:,.0f} GiB")


@contextmanager
def building() -> Iterator[None]:
    """Inside, modules are made; what would never fit is refused as soon as that is known.

    Raises:
        ConfigError: Their weights have no room.
    """
    total, tensors, numbers = _meminfo("MemTotal"), 0, 0

    def count(module: nn.Module, name: str, weight: nn.Parameter | None) -> None:
        nonlocal tensors, numbers
        tensors, numbers = tensors + 1, numbers + (0 if weight is None else weight.numel())
        if tensors > MOST_TENSORS or (total is not None and 4 * numbers > SHARE_OF_WEIGHTS * total):
            raise _too_large()

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_short_of_memory(error):
            raise
        raise _too_large() from error
    finally:
        hook.remove()


def _too_large() -> ConfigError:
    return ConfigError("the model is too large for the memory of this machine: lower its depth, or its networks' sizes")


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
