"""A table of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

MEAN, FACTOR = np.array([170.0, 65.0, -3e-3]), np.array([[10.0, 0, 0], [6, 8, 0], [1e-3, 0, 1e-3]])


@pytest.fixture
def csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Correlated Gaussians of three scales, with names in a column of text, in the present directory."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(1000, 3)) @ FACTOR.T + MEAN
    rows = "".join(f"p{k},{a!r},{b!r},{c!r}\n" for k, (a, b, c) in enumerate(x.tolist()))
    (tmp_path / "my.csv").write_text("name,height,weight,angle\n" + rows)
    return tmp_path / "my.csv"
