"""Numbers that are mapped from a file are those that it holds, and what the system is told arrives there."""

from __future__ import annotations

import gc
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from cifrun.data.mapped import Mapped

COUNT = 10_000
X = torch.arange(3.0 * COUNT).view(-1, 3)


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    X.numpy().tofile(tmp_path / "numbers")
    return tmp_path / "numbers"


def test_rows_are_those_of_the_file_also_when_it_is_closed_and_gone(numbers: Path) -> None:
    with open(numbers, "rb") as file:
        mapped = Mapped(file, (COUNT, 3))
    numbers.unlink()
    rows = mapped.rows
    del mapped
    gc.collect()
    assert torch.equal(rows, X)


def test_a_file_that_was_written_may_be_changed_through_its_rows() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(X.numpy().tobytes())
        mapped = Mapped(file, (COUNT, 3))
        mapped.rows[0] = 7
        file.seek(0)
        assert np.frombuffer(file.read(12), np.float32).tolist() == [7, 7, 7]


def test_no_rows_are_an_empty_tensor(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with open(tmp_path / "empty", "rb") as file:
        mapped = Mapped(file, (0, 3))
    mapped.at_random()
    mapped.will_need(torch.tensor([], dtype=torch.long), 5)
    assert mapped.rows.shape == (0, 3)


def test_what_is_told_changes_no_number(numbers: Path) -> None:
    with open(numbers, "rb") as file:
        mapped = Mapped(file, (COUNT, 3))
    mapped.at_random()
    mapped.will_need(torch.tensor([0, 5_000, COUNT - 1]), 100)  # the last of them ends beyond the file
    assert torch.equal(mapped.rows, X)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="asks Linux what it was told")
def test_the_system_is_told_that_rows_are_read_at_random(numbers: Path) -> None:
    with open(numbers, "rb") as file:
        mapped = Mapped(file, (COUNT, 3))

    def flags() -> str:
        smaps = Path("/proc/self/smaps").read_text()
        found = re.search(rf"{numbers}\n.*?VmFlags: ([a-z ]+)", smaps, re.DOTALL)
        assert found is not None
        return found[1]

    assert " rr " not in flags()
    mapped.at_random()
    assert " rr " in flags()
