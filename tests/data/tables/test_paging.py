"""What the system is told arrives there, and changes no number."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from cifrun.data.tables.paging import at_random, soon


def test_any_tensor_may_be_told_of() -> None:
    x = torch.arange(30_000.0).view(-1, 3)
    before = x.clone()
    at_random(x)
    soon(x, torch.tensor([0, 5_000, 9_990]), 100)
    assert torch.equal(x, before)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="asks Linux what it was told")
def test_the_system_is_told(tmp_path: Path) -> None:
    np.arange(30_000, dtype=np.float32).tofile(tmp_path / "numbers")
    x = torch.from_numpy(np.memmap(tmp_path / "numbers", np.float32, "r+", shape=(10_000, 3)))

    def flags() -> str:
        smaps = Path("/proc/self/smaps").read_text()
        return re.search(rf"{tmp_path}/numbers\n.*?VmFlags: ([a-z ]+)", smaps, re.DOTALL)[1]  # type: ignore[index]

    assert " rr " not in flags()
    at_random(x[10:])
    assert " rr " in flags()
    soon(x, torch.tensor([0, 9_999]), 100)
    assert x[9_999].tolist() == [29_997, 29_998, 29_999]
