"""Data files that were altered: they are used or refused, in a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from .box import Box, none_of
from .runs import TINY
from .tables import write


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200))
def test_an_altered_table_is_used_or_refused(seed: int, box: Box, runs: Path) -> None:
    path = write(box.work, Random(seed))
    shutil.copytree(runs / "table", box.work / "run")
    problems = []
    for words, own in (
        (("train", *TINY, "dataset=file", f"dataset.path={path}", "hydra.run.dir=new"), "new"),
        (("eval", "run=run", f"data={path}", "per_point=points.csv"), "points.csv"),
    ):
        before = box.state()
        done = box.do(*words)
        allowed = (box.work / own,) if done.code == 0 else ()
        found = [*done.faults(), *box.changed(before, *allowed, box.home / "data")]
        problems += [f"{words[0]}: {problem}" for problem in found]
    none_of(problems, f"seed {seed}: {path.name}")
