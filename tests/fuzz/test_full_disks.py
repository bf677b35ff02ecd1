"""Full disks: one sentence; the last checkpoint stays whole, and summary.json tells the truth."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from cifrun.runs.directory import RunDirectory
from tests.helpers import assert_same_run

from .box import Box
from .runs import FEW, TINY


@pytest.fixture
def disk(box: Box) -> Iterator[Path]:
    """Where a small disk of its own is mounted by `mount`."""
    folder = box.work / "disk"
    folder.mkdir()
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def mount(folder: Path, size: int) -> None:
    """A disk of so many kilobytes."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "fuzz", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")


def check(run: Path, code: int | None) -> None:
    """What is there is whole, and the status is true."""
    directory = RunDirectory(run)
    status = directory.summary().get("status")
    assert code == 0 or status in (None, "failed", "interrupted", "completed", "running"), status
    if code == 0:
        assert status == "completed"
    for tag in ("latest", "best"):
        if directory.checkpoint_path(tag).exists():
            directory.load_checkpoint(tag)
    assert not list(run.rglob("*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_full_disk_ends_training_with_a_sentence(seed: int, box: Box, disk: Path, runs: Path) -> None:
    size = Random(seed).choice([4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 56, 64, 80, 100, 150, 200, 300, 400, 600])
    mount(disk, size)
    words = ["train", *TINY, *FEW, "cif=true", "trainer.plot_every=4", "hydra.run.dir=disk/run"]
    done = box.do(*words, pictures=True)
    assert not done.faults(), f"seed {seed}: {size} kB: {done.faults()}"
    if (disk / "run").exists():
        check(disk / "run", done.code)
    if done.code == 2 and (disk / "run" / "config.yaml").exists():
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        for again in (["train", "resume=disk/run"], words):
            if (done := box.do(*again)).code == 0:
                break
        assert done.code == 0, f"seed {seed}: {size} kB: {done.err}"
        assert_same_run(disk / "run", runs / "cif")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_full_disk_ends_other_commands_with_a_sentence(seed: int, box: Box, disk: Path, runs: Path) -> None:
    draw = Random(seed)
    words = draw.choice(
        [
            ("report", str(runs), "output=disk/report"),
            ("sample", f"run={runs / 'cif'}", "n=10000", "output=disk/x.csv"),
            ("sample", f"run={runs / 'cif'}", "n=10000", "output=disk/x.npy"),
            ("sample", f"run={runs / 'cif'}", "n=100", "output=disk/x.png"),
            ("sample", f"run={runs / 'cif'}", "n=10000", "output=disk/x.parquet"),
            ("eval", "run=disk/run"),
            ("eval", "run=disk/run", "data=table.csv", "per_point=disk/p.npz"),
        ]
    )
    size = draw.choice([4, 8, 16, 32])
    if "run=disk/run" in words:
        mount(disk, 5000)
        shutil.copytree(runs / "table", disk / "run")
        shutil.copy(runs / "table.csv", box.work)
        used = int(
            subprocess.run(["df", "--output=used", str(disk)], capture_output=True, text=True).stdout.split()[-1]
        )
        subprocess.run(["mount", "-o", f"remount,size={used}k", str(disk)], check=True)
    else:
        mount(disk, size)
    before = {p: p.read_bytes() for p in disk.rglob("*") if p.is_file() and p.name == "summary.json"}
    done = box.do(*words)
    assert not done.faults(), f"seed {seed}: {words}, {size} kB: {done.faults()}"
    assert not list(disk.rglob("*.tmp"))
    for path, content in before.items():
        assert json.loads(path.read_text()) and (done.code == 0 or path.read_bytes() == content)
