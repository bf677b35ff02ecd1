"""A loader brings each row that it is asked for to the device, from wherever the data are."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from cifrun.config.schema import TrainerConfig
from cifrun.data import loader as module
from cifrun.data.base import Data
from cifrun.data.loader import Loader
from cifrun.data.mapped import Mapped
from cifrun.data.order.batches import Batches

CPU = torch.device("cpu")
X = torch.arange(16_000.0).view(4000, 4)


def loader(x: Tensor = X, mapped: Mapped | None = None, **trainer: object) -> Loader:
    return Loader(Data(x, x[:1], x[:1], mapped=mapped), TrainerConfig(**trainer), 3, CPU)  # type: ignore[arg-type]


def given(found: Loader, rows: Tensor) -> Tensor:
    return found.events(found.fetch(rows))


@pytest.fixture
def mapped(tmp_path: Path) -> Mapped:
    X.numpy().tofile(tmp_path / "numbers")
    with open(tmp_path / "numbers", "rb") as file:
        return Mapped(file, tuple(X.shape))


@pytest.mark.parametrize("resident", [2**31, 0])
def test_events_are_the_rows_that_were_asked_for(
    resident: int, mapped: Mapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESIDENT", resident)
    rows = torch.tensor([3999, 0, 7, 7])
    for found in (loader(), loader(mapped.rows, mapped), Loader.of_tensor(X, CPU)):
        assert torch.equal(given(found, rows), X[rows])


def test_few_data_are_on_the_device_and_only_numbers_of_rows_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.tensor([5, 2])
    assert torch.equal(loader().fetch(rows), rows)
    monkeypatch.setattr(module, "RESIDENT", X.nbytes - 1)
    assert torch.equal(loader().fetch(rows), X[rows])


@pytest.mark.parametrize("resident", [2**31, 0])
def test_grey_levels_get_noise_on_the_device(resident: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESIDENT", resident)
    levels = torch.arange(256, dtype=torch.uint8).view(64, 1, 2, 2)
    found, rows = Loader.of_tensor(levels, CPU), torch.arange(64)
    torch.manual_seed(0)
    x = given(found, rows)
    assert x.dtype == torch.float32 and torch.equal(x.floor().to(torch.uint8), levels)
    assert not torch.equal(given(found, rows), x)
    torch.manual_seed(0)
    assert torch.equal(given(found, rows), x)


def test_the_order_is_that_of_the_seed() -> None:
    found, order = loader(batch_size=300), Batches(4000, 300, 3)
    assert all(torch.equal(found.indices(step), order.indices(step)) for step in range(20))


def test_large_data_are_shuffled_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 160)
    assert loader().batches.block is None
    assert loader(shuffle="blocks").batches.block == 10
    monkeypatch.setattr(module, "IN_MEMORY", X.nbytes - 1)
    assert loader().batches.block == 10
    assert loader(shuffle="rows").batches.block is None


def test_the_file_of_large_data_is_told_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 160)
    monkeypatch.setattr(module, "WINDOW", 4)
    file = Mock()
    loader(mapped=file).indices(0)
    assert not file.method_calls, "what memory holds is read as the system likes"
    loader(mapped=file, shuffle="blocks", batch_size=40).indices(0)
    (at_random, will_need) = file.method_calls
    assert at_random[0] == "at_random" and will_need[0] == "will_need"
    assert len(will_need.args[0]) == 4 and will_need.kwargs == {"rows": 10}
    file.reset_mock()
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    loader(mapped=file, shuffle="rows").indices(0)
    assert [call[0] for call in file.method_calls] == ["at_random"]
