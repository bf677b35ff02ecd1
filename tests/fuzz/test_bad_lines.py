"""Bad command lines: one sentence and exit code 2, with nothing left behind; or they are not bad, and work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import pytest

from .box import Box, none_of
from .lines import line, odd_name
from .runs import FEW, TINY, shown


def left_behind(work: Path) -> list[str]:
    """Folders of nothing, and runs that are not what they say: one that began and then failed may leave its own."""
    found = []
    for folder in work.rglob("*"):
        inside = any((parent / "config.yaml").exists() for parent in folder.parents)
        if folder.is_dir() and not inside and not any(folder.iterdir()):
            found.append(f"an empty folder: {folder.relative_to(work)}")
    for file in work.rglob("config.yaml"):
        summary = file.parent / "summary.json"
        if not summary.exists() or json.loads(summary.read_text()).get("status") == "running":
            found.append(f"a run that says that it goes on: {file.parent.relative_to(work)}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(470))
def test_a_bad_line_is_refused_in_a_sentence(seed: int, box: Box, runs: Path) -> None:
    words = line(Random(seed))
    shutil.copy(runs / "table.csv", box.work)
    shutil.copytree(runs / "cif", box.work / "run")
    before = box.state()
    # Whatever is accepted need not go on for long; 130 is the end of what was asked to stop.
    done = box.do(*words, interrupt_after=20)
    problems = [*done.faults((0, 2, 130)), *left_behind(box.work)]
    if done.code in (0, 130):
        problems += box.changed(before, box.work)
    else:
        made = [folder for folder in box.work.rglob("*") if folder.is_dir()]
        problems += (
            [] if any(f.name != "run" and "outputs" in f.parts for f in made) else box.changed(before, box.work / "run")
        )
    none_of(problems, f"seed {seed}: {shown(words)}")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_a_path_may_have_any_name(seed: int, box: Box, runs: Path) -> None:
    draw = Random(seed)
    name, folder = odd_name(draw), odd_name(draw)
    (box.work / folder).mkdir()
    shutil.copy(runs / "table.csv", box.work / folder / f"{name}.csv")
    words = [*TINY, "dataset=file", f"dataset.path={folder}/{name}.csv"]
    done = box.do("train", *words, "hydra.run.dir=run")
    none_of(done.faults((0,)), f"seed {seed}: {shown(words)}")
    shutil.move(box.work / "run", box.work / folder / "run")
    for words in (
        ["eval", f"run={folder}/run", f"data={folder}/{name}.csv", f"per_point={folder}/{name}.tsv"],
        ["sample", f"run={folder}/run", "n=3", f"output={folder}/{name}.npy"],
        ["train", f"resume={folder}/run", "trainer.max_steps=14"],
        [
            "train",
            *TINY,
            *FEW,
            f"hydra.run.dir='{name}'"
            if "'" not in name and "\\" not in name and "$" not in name
            else "hydra.run.dir=x",
        ],
        ["report", folder, f"output={folder}/{name}"],
    ):
        done = box.do(*words)
        none_of(done.faults((0,)), f"seed {seed}: {shown(words)}")
    assert (box.work / folder / f"{name}.tsv").is_file() and (box.work / folder / f"{name}.npy").is_file()
    assert (box.work / folder / name / "report.md").is_file()
