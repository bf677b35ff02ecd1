"""What has no room is refused before it takes any."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cifrun.compute import memory
from cifrun.compute.memory import TooLarge, building, check_room
from cifrun.errors import ConfigError


def test_numbers_that_fit_pass_and_more_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_meminfo", lambda name: 8 * 2**30)
    check_room(2**31, "these")
    with pytest.raises(ConfigError, match="n = 5 samples would take 16 GiB, and this machine has 8 GiB"):
        check_room(2**32, "n = 5 samples")
    with pytest.raises(ConfigError, match="16 GiB"):
        check_room(2**31, "these", bytes_each=8)
    monkeypatch.setattr(memory, "_meminfo", lambda name: None)
    check_room(2**62, "where the system does not tell, nothing is refused")


def test_a_model_that_grows_beyond_memory_is_stopped_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_meminfo", lambda name: 2 * 4 * 1000)
    made = []
    with pytest.raises(ConfigError, match="the model is too large"), building():
        while True:
            made.append(nn.Linear(9, 10))
    assert len(made) == 1000 // 100
    with building():
        nn.Linear(9, 10)
    while len(made) < 50:  # outside, nobody counts
        made.append(nn.Linear(9, 10))


def test_many_small_tensors_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_TENSORS", 20)
    with pytest.raises(ConfigError, match="the model is too large"), building():
        for _ in range(11):
            nn.Linear(1, 1)


def test_one_tensor_that_the_system_refuses_has_the_same_sentence() -> None:
    with pytest.raises(ConfigError, match="the model is too large"), building():
        torch.empty(2**60)
    with pytest.raises(RuntimeError, match="another"), building():
        raise RuntimeError("another")


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.empty(2**40),
        lambda: torch.zeros((2**20, 2**20)),
        lambda: torch.ones([2**40], dtype=torch.bool),
        lambda: torch.randn(2**20, 2**20),
        lambda: torch.zeros(size=(2**40,)),
        lambda: torch.eye(2**20),
        lambda: torch.randperm(2**40),
        lambda: torch.arange(1, 2**40),
        lambda: nn.Linear(2**20, 2**20),
    ],
)
def test_a_tensor_without_room_is_refused_before_it_is_made(make: Callable[[], object]) -> None:
    torch.arange(5, 0, -1), torch.zeros(()), torch.eye(3), torch.randperm(0)
    with pytest.raises(ConfigError, match="the model is too large"), building():
        make()


def test_what_is_saved_bounds_what_is_built() -> None:
    with pytest.raises(TooLarge), building(100):
        torch.zeros(2**21)
    with pytest.raises(TooLarge), building(100):
        for _ in range(40):
            nn.Linear(1, 1).register_buffer("one", torch.zeros(2**15))
    with building(2**18):
        torch.zeros(2**21)
