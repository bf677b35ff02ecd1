"""Fixtures of the fuzz: the process that does commands, an empty box for each case, and some small runs, made once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from .box import Box
from .runs import FEW, RUNS, TINY
from .server import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def box(tmp_path: Path, server: Server) -> Iterator[Box]:
    yield Box(tmp_path, server)
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Path:
    """A folder with a complete run of each of `RUNS`, and the table that one of them was trained on."""
    box = Box(tmp_path_factory.mktemp("runs"), server)
    draws = np.random.default_rng(0).normal(size=(300, 2)) * [1, 20] + [5, 100]
    np.savetxt(box.work / "table.csv", draws, fmt="%.6f", delimiter=",", header="height,weight", comments="")
    for name, words in RUNS.items():
        done = box.do("train", *TINY, *words(box.work), f"hydra.run.dir={name}", pictures=name == "cif")
        assert done.code == 0, done.err
    done = box.do("train", "-m", *TINY, *FEW, "cif=true,false", "sweep.name=sweep")
    assert done.code == 0, done.err
    return box.work
