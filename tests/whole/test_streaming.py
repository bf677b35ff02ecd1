"""Data that are read from a file as they are needed: each datum once an epoch however often a run stops, in bounded
memory, and never out of a file that has changed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from torch import Tensor

from cifrun.cli.main import main
from cifrun.config.schema import Config
from cifrun.data.loader import Loader
from cifrun.io.table_files import write_table
from cifrun.runs.directory import RunDirectory
from cifrun.training.loop import train
from cifrun.training.step import Update

pytestmark = pytest.mark.usefixtures("without_pictures")

COUNT, BATCH = 200, 37


class Killed(Exception):
    """A process that ends at once."""


class Log:
    """What each step was given, by the numbers that the rows of the file bear; a step that is done again gets the same.

    `at` says what happens in a step: SIGTERM asks for a stop after it, SIGKILL ends the process before it is saved.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: dict[int, signal.Signals]) -> None:
        self.rows: dict[int, list[int]] = {}
        indices, update = Loader.indices, Update.__call__
        step = -1

        def asked(loader: Loader, number: int) -> Tensor:
            nonlocal step
            step = number
            return indices(loader, number)

        def given(self_: Update, batch: Tensor, lr: float) -> Any:
            events = self_.loader.events(self_.loader.fetch(batch))
            rows = [int(row) for row in events[:, 0].tolist()]
            assert self.rows.setdefault(step, rows) == rows
            event = at.pop(step, None)
            if event == signal.SIGTERM:
                os.kill(os.getpid(), signal.SIGTERM)
            elif event == signal.SIGKILL:
                raise Killed
            return update(self_, batch, lr)

        monkeypatch.setattr(Loader, "indices", asked)
        monkeypatch.setattr(Update, "__call__", given)


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """A table whose first column is the number of the row."""
    x = np.random.default_rng(0).normal(size=(COUNT, 2))
    x[:, 0] = np.arange(COUNT)
    parquet.write_table(pa.table({"row": x[:, 0], "x": x[:, 1]}), tmp_path / "x.parquet", row_group_size=30)
    return tmp_path / "x.parquet"


def config(path: Path, shuffle: str, **dataset: Any) -> Config:
    pace = {"log_every": 100, "valid_every": 100, "plot_every": 0, "checkpoint_every": 4, "progress": False}
    return Config.parse(
        {
            "dataset": {"name": "file", "path": str(path), **dataset},
            "flow": {"family": "affine"},
            "cif": False,
            "trainer": {"batch_size": BATCH, "max_steps": 15, "shuffle": shuffle, **pace},
            "eval": {"importance_samples": 1},
            "diagnostics": {"enabled": False},
        }
    )


@pytest.mark.parametrize(
    ("shuffle", "keep", "large", "resident"),
    [("rows", False, 2**24, 2**31), ("rows", True, 0, 0), ("blocks", True, 0, 2**31), ("blocks", False, 2**24, 0)],
)
def test_stopped_and_killed_in_epochs_no_datum_is_lost_or_repeated(
    shuffle: str, keep: bool, large: int, resident: int, numbered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """15 steps of 37 of 160 data, an epoch of 4.3 steps; two stops and two kills, none between two epochs."""
    monkeypatch.setenv("CIFRUN_DATA", str(tmp_path / "kept"))
    monkeypatch.setattr("cifrun.data.order.permutation.LARGE", large)
    monkeypatch.setattr("cifrun.data.tables.splits.LARGE", large)
    monkeypatch.setattr("cifrun.data.loader.RESIDENT", resident)
    monkeypatch.setattr("cifrun.data.loader.BLOCK", 8 * 5)  # five rows of two numbers
    monkeypatch.setattr("cifrun.data.loader.WINDOW", 3)
    log = Log(monkeypatch, {3: signal.SIGTERM, 6: signal.SIGKILL, 9: signal.SIGTERM, 12: signal.SIGKILL})
    directory, resume, stops = tmp_path / "run", False, 0
    while RunDirectory(directory).summary().get("status") != "completed":
        try:
            train(config(numbered, shuffle, keep=keep), directory, resume)
        except (KeyboardInterrupt, Killed):
            stops += 1
        resume = True
    assert stops == 4 and sorted(log.rows) == list(range(15))
    stream = [row for step in range(15) for row in log.rows[step]]
    epochs = [stream[k : k + 160] for k in range(0, len(stream), 160)]
    assert [len(epoch) for epoch in epochs] == [160, 160, 160, 75]
    training = set(epochs[0])
    assert len(training) == 160 and all(set(epoch) == training for epoch in epochs[1:3])
    assert set(epochs[3]) <= training and len(set(epochs[3])) == 75
    assert len({tuple(epoch[:75]) for epoch in epochs}) == 4, "each epoch has its own order"

    train(config(numbered, shuffle, keep=keep), tmp_path / "whole")
    assert (tmp_path / "kept").exists() == keep
    latest = [RunDirectory(tmp_path / name).load_checkpoint("latest").tensors for name in ("run", "whole")]
    assert all(torch.equal(latest[0][key], latest[1][key]) for key in latest[1])


# --- a file that has changed ------------------------------------------------------------------------------------------


def test_a_run_is_not_continued_or_tested_on_a_file_that_changed(
    numbered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["dataset=file", f"dataset.path={numbered}", "flow=affine", "cif=false", "debug=tiny"]
    assert main(["train", *words, "hydra.run.dir=run"]) == 0
    fingerprint = json.loads(Path("run/summary.json").read_text())["data_fingerprint"]
    assert len(fingerprint) == 64
    table = parquet.read_table(numbered)
    numbered.rename(tmp_path / "moved.parquet")
    (tmp_path / "moved.parquet").rename(numbered)
    os.utime(numbered)
    assert main(["eval", "run=run"]) == 0, "the same content at another time is the same file"
    parquet.write_table(table.slice(0, COUNT - 1), numbered)
    before = [(path, path.read_bytes()) for path in sorted(Path("run").rglob("*")) if path.is_file()]
    capsys.readouterr()
    for command in (["eval", "run=run"], ["train", "resume=run", "trainer.max_steps=1000"]):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "run was trained on has changed since" in err, err
    assert [(path, path.read_bytes()) for path in sorted(Path("run").rglob("*")) if path.is_file()] == before
    assert main(["eval", "run=run", f"data={numbered}"]) == 0, "other data may be what they are"


# --- memory -----------------------------------------------------------------------------------------------------------

BOUNDED = """
import re, resource, sys
from pathlib import Path
import pyarrow.csv, pyarrow.parquet
import torch
from cifrun.config.schema import TrainerConfig, check
from cifrun.data.checks import check_data
from cifrun.data.loader import Loader
from cifrun.data.order import permutation
from cifrun.data.tables import splits
from cifrun.data.tables.base import File

torch.ones(10).sort()
permutation.LARGE = splits.LARGE = 2**20  # as if there were 16 times as many rows
used = 1024 * int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[2]), used + int(sys.argv[2])))
data = check(File, {"name": "file", "path": sys.argv[1], "keep": sys.argv[3] == "kept"}).load()
check_data(data, "file")
data.covariance()
for shuffle in ("rows", "blocks"):
    loader = Loader(data, TrainerConfig(shuffle=shuffle), 0, torch.device("cpu"))
    x = torch.cat([loader.events(loader.fetch(loader.indices(step))) for step in range(10, 20)])
    assert x.isfinite().all() and len(x.unique(dim=0)) == 10_000
print(len(data.train), len(data.valid), len(data.test))
try:
    data.train[:].clone()
except (RuntimeError, MemoryError) as error:
    print("no room for all" if "allocate" in str(error) else error)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux what is in use")
@pytest.mark.parametrize(("ending", "where"), [("parquet", "kept"), ("csv", "not"), ("npy", "not"), ("npy", "kept")])
def test_a_table_that_memory_does_not_hold(ending: str, where: str, tmp_path: Path) -> None:
    """In 100 MB of memory, a table of 6 million × 8 numbers, 192 MB, is read, split and checked, and batches drawn."""
    count, width, bound = 6_000_000, 8, 100_000_000
    x = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)
    path = tmp_path / f"x.{ending}"
    if ending == "npy":
        np.save(path, x)
    else:
        write_table(path, {f"c{k}": column for k, column in enumerate(x.T)})
    del x
    # What counts is what is allocated: so no allocator that reserves more than it uses, and no large stacks of threads.
    allocator = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
    environment = {**os.environ, **allocator, "CIFRUN_DATA": str(tmp_path / "kept")}
    command = [
        "sh",
        "-c",
        'ulimit -s 1024; exec "$@"',
        "-",
        sys.executable,
        "-c",
        BOUNDED,
        str(path),
        str(bound),
        where,
    ]
    options: dict[str, Any] = {"capture_output": True, "text": True, "cwd": Path(__file__).parents[2]}
    done = subprocess.run(command, check=False, env=environment, **options)
    assert (tmp_path / "kept").exists() == (where == "kept")
    assert done.stdout.splitlines() == ["4800000 600000 600000", "no room for all"], done.stdout + done.stderr
