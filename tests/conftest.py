"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests import helpers


@pytest.fixture(scope="module")
def without_pictures() -> Iterator[None]:
    """In a module that asks for it, runs in this process draw nothing."""
    with helpers.without_pictures():
        yield


@pytest.fixture(autouse=True)
def _leaves_no_trace() -> Iterator[None]:
    """A test fails that leaves another state of the process than it found, from which later tests would differ."""
    before = process_state()
    yield
    after = process_state()
    assert {name: after.get(name) for name in before if after.get(name) != before[name]} == {}


def process_state() -> dict[str, Any]:
    """What tests share: torch's switches, signal handlers, the directory, and what each module of the package holds."""
    modules = {name: vars(module) for name, module in sys.modules.items() if name.partition(".")[0] == "cifrun"}
    held = {f"{name}.{key}": id(value) for name, own in modules.items() for key, value in list(own.items())}
    handlers = {number.name: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    return {
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "process group": torch.distributed.is_initialized(),
        "directory": os.getcwd(),
        **handlers,
        **held,
    }
