"""What it takes to train on a table: time and memory to get it ready, and batches a second in both orders.

    python scripts/streaming.py 25 10        # 25 million rows of 10 columns, 2 GB of Parquet, in the present folder
    python scripts/streaming.py 25 10 npy    # 1 GB of npy

Before batches are timed, the system is asked to forget what it holds of the file, so that they come from the disk; and
the table counts as a large one, and as one that memory does not hold, whatever its size.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import torch

from cifrun.config.schema import TrainerConfig, check
from cifrun.data import loader as loading
from cifrun.data.base import Data
from cifrun.data.checks import check_data
from cifrun.data.loader import Loader
from cifrun.data.tables import base as tables
from cifrun.data.tables.base import File

MILLION, STEPS = 1_000_000, 200


def make(path: Path, millions: int, columns: int) -> None:
    """Correlated normal numbers: Parquet in double precision, a row group a million rows; npy in single."""
    rng, writer = np.random.default_rng(0), None
    if path.suffix == ".npy":
        array = np.lib.format.open_memmap(path, "w+", np.float32, (millions * MILLION, columns))
    for k in range(millions):
        x = rng.normal(size=(MILLION, columns)).cumsum(1)
        if path.suffix == ".npy":
            array[k * MILLION : (k + 1) * MILLION] = x
            continue
        group = pa.table({f"x{k + 1}": column for k, column in enumerate(x.T)})
        writer = writer or parquet.ParquetWriter(path, group.schema, use_dictionary=False)
        writer.write_table(group)
    if writer:
        writer.close()


def status(key: str) -> int:
    """One of the kernel's numbers about this process, in MB."""
    return int(re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1000  # type: ignore[index]


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Print the time that the block takes, and by how much the memory that can't be taken back grows, at most."""
    before, peak, done = status("RssAnon"), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, status("RssAnon"))

    thread = threading.Thread(target=watch)
    thread.start()
    began = time.monotonic()
    yield
    seconds = time.monotonic() - began
    done.set()
    thread.join()
    print(f"{what:48} {seconds:8.1f} s   {max(0, peak - before):5d} MB")


def forget(path: Path, folder: Path) -> None:
    """Ask the system to drop the pages of a file, and of those below a folder that are made of it."""
    for file in (path, *folder.rglob("*.float32")):
        with open(file, "rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def load(path: Path) -> Data:
    """The table, from its file or from what was made of it."""
    return check(File, {"name": "file", "path": str(path)}).load()


def main(millions: int, columns: int, ending: str) -> None:
    torch.set_num_threads(1)
    tables.LARGE_FILE = loading.IN_MEMORY = 0
    path, folder = Path(f"streaming-{millions}-{columns}.{ending}"), Path("streaming-kept").absolute()
    os.environ["CIFRUN_DATA"] = str(folder)
    if not path.exists():
        make(path, millions, columns)
    print(f"{path}: {path.stat().st_size / 1e9:.2f} GB")
    forget(path, folder)
    for what in ("first load", "second load"):
        with measured(what):
            data = load(path)
    with measured("checks and moments"):
        check_data(data, "file")
    shape, loader = data.shape, None
    for shuffle in ("rows", "blocks"):
        del data, loader  # what is mapped is not forgotten
        data = load(path)
        forget(path, folder)
        loader = Loader(data, TrainerConfig(shuffle=shuffle), 0, torch.device("cpu"))
        with measured(f"{STEPS} batches of 1000, from disk, shuffle={shuffle}"):
            for step in range(STEPS):
                loader.events(loader.fetch(loader.indices(step))).sum()
    del data, loader
    data = load(path)
    forget(path, folder)
    with measured("the validation set once, from disk"):
        for start in range(0, len(data.valid), 1000):
            data.valid[start : start + 1000].sum()
    print(
        f"{len(data.train):,} training points of shape {shape}; peak resident, mapped files too: {status('VmHWM')} MB"
    )


if __name__ == "__main__":
    millions, columns, ending = (*sys.argv[1:], *("25", "10", "parquet")[len(sys.argv) - 1 :])
    main(int(millions), int(columns), ending)
