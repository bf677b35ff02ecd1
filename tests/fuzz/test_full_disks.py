"""Full disks: one sentence; the last checkpoint stays whole, and summary.json tells the truth."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from cifrun.errors import RunError
from cifrun.runs.directory import RunDirectory

from .box import Box, none_of
from .runs import FEW, TINY, shown
from .test_kills import differences


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


def damage(run: Path, code: int | None) -> list[str]:
    """What is there that is not whole, or not true."""
    directory = RunDirectory(run)
    found = [f"left: {path.name}" for path in run.rglob("*.tmp")]
    try:
        status = directory.summary().get("status")
        for tag in ("latest", "best"):
            if directory.checkpoint_path(tag).exists():
                directory.load_checkpoint(tag)
    except RunError as error:
        return [*found, str(error)]
    true = ("completed",) if code == 0 else (None, "failed", "completed") if run.exists() else (None,)
    return found if status in true else [*found, f"it ended with {code}, and its status is {status}"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_full_disk_ends_training_with_a_sentence(seed: int, box: Box, disk: Path, runs: Path) -> None:
    size = Random(seed).choice([4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 56, 64, 80, 100, 150, 200, 300, 400, 600])
    mount(disk, size)
    words = ["train", *TINY, *FEW, "cif=true", "trainer.plot_every=4", "hydra.run.dir=disk/run"]
    done = box.do(*words, pictures=True)
    none_of([*done.faults(), *damage(disk / "run", done.code)], f"seed {seed}: {size} kB")
    if done.code == 2 and (disk / "run" / "config.yaml").exists():
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        for again in (["train", "resume=disk/run"], words):
            if (done := box.do(*again)).code == 0:
                break
        none_of([*done.faults((0,)), *differences(disk / "run", runs / "cif")], f"seed {seed}: {size} kB, then more")


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
    problems = [*done.faults(), *(f"left: {path.name}" for path in disk.rglob("*.tmp"))]
    if done.code != 0:
        problems += [f"changed: {path.name}" for path, content in before.items() if path.read_bytes() != content]
    none_of(problems, f"seed {seed}: {shown(words)}, {size} kB")
