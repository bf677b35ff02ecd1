"""Pickles: read without what wrote them, and without running anything."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifrun.data.tables.pickled import read_frame
from cifrun.errors import ConfigError

from ..archive import pickled


def test_a_pickled_frame_is_read_without_pandas(tmp_path: Path) -> None:
    x = np.arange(15.0).reshape(3, 5)
    (tmp_path / "x").write_bytes(pickled(list("abcde"), x))
    names, found = read_frame(tmp_path / "x")
    assert names == list("abcde") and np.array_equal(found, x)


class Evil:
    """Runs a command when it is unpickled by a reader that trusts."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("evil"),)


@pytest.mark.parametrize("content", [Evil(), {"a": Evil()}, np.array([Evil()]), [1, 2], b"", None])
def test_a_pickle_runs_nothing(content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").write_bytes(pickle.dumps(content) if content != b"" else b"")
    with pytest.raises(ConfigError, match="is not a pickled table of numbers"):
        read_frame(tmp_path / "x")
    assert not Path("evil").exists()
