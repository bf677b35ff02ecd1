"""A call leaves the process as it was, and a warning is one of the line that called."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
import torch

import cifrun
from cifrun.api.process import as_it_was, outside
from cifrun.compute.rng import seed_all


def draws() -> tuple[float, ...]:
    return torch.rand(1).item(), float(np.random.rand()), random.random()


def switches() -> tuple[Any, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
    )


@contextmanager
def set_back(deterministic: bool, warn_only: bool, precision: str) -> Iterator[None]:
    """Inside, torch's switches are these."""
    before = switches()
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.set_float32_matmul_precision(before[2])
        torch.backends.cudnn.allow_tf32 = before[3]


def meddle() -> None:
    """What a run sets and draws."""
    seed_all(17)
    draws()
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = not torch.backends.cudnn.allow_tf32


STATES = [(False, False, "highest"), (True, False, "medium"), (True, True, "high")]


@pytest.mark.parametrize("state", STATES, ids=lambda state: "-".join(map(str, state)))
@pytest.mark.parametrize("fails", [False, True])
def test_generators_and_switches_are_as_before(state: tuple[bool, bool, str], fails: bool) -> None:
    """Also where the call ends in an error."""
    with set_back(*state):
        before = switches()
        seed_all(3)
        expected = draws()
        seed_all(3)
        with suppress(KeyError), as_it_was(9):
            meddle()
            if fails:
                raise KeyError
        assert draws() == expected and switches() == before


def test_inside_torch_draws_from_the_seed() -> None:
    found = []
    for seed in (1, 1, 2):
        with as_it_was(seed):
            found.append(torch.rand(1).item())
    assert found[0] == found[1] != found[2]


def test_a_warning_is_that_of_the_first_line_that_is_not_of_this_package() -> None:
    assert outside() == 1
    code = compile("def inner(): return outside()\ndef outer(): return inner()", cifrun.__file__, "exec")
    inside: dict[str, Any] = {"outside": outside}
    exec(code, inside)  # two functions as if they stood in the package
    assert inside["inner"]() == 2 and inside["outer"]() == 3
