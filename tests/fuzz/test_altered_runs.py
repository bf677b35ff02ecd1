"""Run directories that were altered: each verb does what it can or says in a sentence what is wrong, and no more."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from random import Random

import pytest

from cifrun.runs.directory import RunDirectory
from tests.helpers import _timeless

from .alterations import alter, flipped
from .box import Box, Outcome, none_of

#: Beside a report, each case has two of these.
VERBS = ("load", "eval", "sample", "resume")


def do(box: Box, verb: str, run: Path) -> Outcome:
    """A verb with a run."""
    words = {
        "report": ("report", str(run.parent), "output=report"),
        "load": (str(run),),
        "eval": ("eval", f"run={run}"),
        "sample": ("sample", f"run={run}", "n=5"),
        "resume": ("train", f"resume={run}", "trainer.max_steps=15"),
    }
    return box.do(*words[verb], verb="load" if verb == "load" else "main")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(300))
def test_an_altered_run_is_done_or_refused(seed: int, box: Box, runs: Path) -> None:
    problems = []
    for verb in ("report", *Random(seed).sample(VERBS, 2)):
        draw = Random(seed)
        folder = box.work / verb
        folder.mkdir()
        run = folder / "run"
        shutil.copytree(runs / draw.choice(["plain", "cif", "cif", "table"]), run, symlinks=True)
        shutil.copytree(runs / "plain", folder / "good")
        outside = box.outside / verb
        outside.mkdir()
        what = alter(run, outside, draw)
        before = box.state()
        box.watch()
        done = do(box, verb, run)
        own = (folder / "report", box.work / "report") if verb == "report" else (run,) if verb != "load" else ()
        found = [*box.opened(), *done.faults(), *box.changed(before, *own)]
        if verb == "report" and done.code != 0:
            found.append(f"the good run beside it is not reported: {done.err}")
        elif verb == "report":
            rows = list(csv.DictReader((box.work / "report" / "report.csv").read_text().splitlines()))
            found += [] if any(row["flow"] == "affine" and row["cif"] == "false" for row in rows) else ["no good run"]
        problems += [f"{verb}: {problem}" for problem in found]
    none_of(problems, f"seed {seed}: {what}")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_bit_of_the_weights_is_refused(seed: int, box: Box, runs: Path) -> None:
    """Or it is one that says nothing: the result is what it was."""
    draw = Random(seed)
    name = draw.choice(["plain", "cif"])
    run = box.work / "run"
    shutil.copytree(runs / name, run)
    what = flipped(run, box.outside, draw)
    done = do(box, "eval", run)
    none_of(done.faults(), f"seed {seed}: {what}")
    if done.code == 0:
        ours, theirs = (_timeless(RunDirectory(path).summary()["test"]) for path in (run, runs / name))
        assert {k: theirs[k] for k in ours} == ours, f"seed {seed}: {what}"
