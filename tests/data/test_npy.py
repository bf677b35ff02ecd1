"""What an npy file says of its array, as NumPy writes it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

from cifrun.data.npy import describe


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">i8", "u1", "?", "<U3", "<f2"])
def test_what_numpy_writes_is_described_and_mapped(dtype: str, order: Any, version: Any, tmp_path: Path) -> None:
    x = np.asarray(np.arange(24).reshape(4, 3, 2), dtype, order)
    with open(tmp_path / "x.npy", "wb") as stream:
        npy.write_array(stream, x, version)
    with open(tmp_path / "x.npy", "rb") as stream:
        told = describe(stream, (tmp_path / "x.npy").stat().st_size)
        found = told.map(stream)
    assert told.shape == x.shape and told.dtype == x.dtype and np.array_equal(found, x)


def test_a_file_that_is_cut_off_is_refused() -> None:
    stream = io.BytesIO()
    np.save(stream, np.arange(24.0))
    content = stream.getvalue()
    for end in range(len(content)):
        with pytest.raises(ValueError):
            describe(io.BytesIO(content[:end]), end)
