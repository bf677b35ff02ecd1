"""What has no room is refused before it takes any."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cifrun.compute import memory
from cifrun.compute.memory import building, check_room
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
