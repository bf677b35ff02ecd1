"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from operator import is_
from typing import Any

import pytest
import torch

from tests import helpers


@pytest.fixture(scope="module")
def without_pictures() -> Iterator[None]:
    """In a module that asks for it, runs in this process draw nothing."""
    with helpers.without_pictures():
        yield


@pytest.fixture(autouse=True, scope="session")
def _pytests_files_stay_open() -> None:
    """The log handler that comes with TensorBoard closes its stream when Hydra sets up logging: that was pytest's."""
    from absl import logging

    logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture(autouse=True)
def _leaves_no_trace() -> Iterator[None]:
    """A test fails that leaves another state of the process than it found, from which later tests would differ."""
    before, held = process_state(), what_modules_hold()
    yield
    after = process_state()
    assert {name: value for name, value in after.items() if value != before[name]} == {}
    assert changed(held) == []


def process_state() -> dict[str, Any]:
    """What tests share: torch's switches, signal handlers, the directory."""
    handlers = {number.name: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    return {
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "process group": torch.distributed.is_initialized(),
        "directory": os.getcwd(),
        **handlers,
    }


def what_modules_hold() -> dict[str, dict[str, Any]]:
    """Of each module of the package a copy of its names: thousands, so that this costs more than many a test."""
    return {name: vars(module).copy() for name, module in sys.modules.items() if name.partition(".")[0] == "cifrun"}


def changed(held: dict[str, dict[str, Any]]) -> list[str]:
    """The names that a module holds no longer, or with another value."""
    found = []
    for name, before in held.items():
        after = vars(sys.modules[name]) if name in sys.modules else {}
        if len(after) != len(before) or not all(map(is_, after.values(), before.values())):
            found += [f"{name}.{key}" for key, value in before.items() if key not in after or after[key] is not value]
    return found
