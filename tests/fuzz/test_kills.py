"""Kills: what is done again after one ends bit for bit as what was never stopped, and leaves nothing of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from cifrun.errors import RunError
from tests.helpers import assert_same_run

from .box import Box, none_of, walk
from .runs import FEW, RUNS, TINY


def stop(draw: Random) -> dict[str, object]:
    """A way to be stopped: before some operation on a file, after some step, or in the middle of a file."""
    return draw.choice(
        [
            {"kill_at": draw.randrange(80)},
            {"kill_at": draw.randrange(30)},
            {"kill_after": draw.randrange(1, 13)},
            {"interrupt_after": draw.randrange(1, 13)},
            {"file_size": draw.randrange(1, 12_000), "torn": True},
            {"kill_at": draw.randrange(80)},
        ]
    )


#: What a command ends with: done, refused, interrupted, killed, or killed for a file that is too large.
ENDS = (0, 2, 130, -9, -25)


def differences(run: Path, reference: Path) -> list[str]:
    """What is not as in a run that never stopped; it has the same files, but for events and pictures."""

    def names(folder: Path) -> set[str]:
        names = {str(path.relative_to(folder)) for path in walk(folder)}
        return {name for name in names if "tfevents" not in name and not name.startswith("figures")} | {
            name for name in names if name.endswith(".tmp")
        }

    found = [f"only in one: {name}" for name in sorted(names(run) ^ names(reference))]
    try:
        assert_same_run(run, reference)
    except (AssertionError, RunError, KeyError) as error:
        found.append(f"{type(error).__name__}: {str(error)[:500]}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(140))
def test_a_killed_training_that_goes_on_ends_as_one_that_never_stopped(seed: int, box: Box, runs: Path) -> None:
    draw = Random(seed)
    name = draw.choice(list(RUNS))
    again = ["train", *TINY, *RUNS[name](runs), "hydra.run.dir=run"]
    resume = ["train", "resume=run"]
    words, story = again, []
    for _ in range(draw.randrange(1, 4)):
        how = stop(draw)
        done = box.do(*words, **how)
        story.append(f"{how}: {done.code}")
        none_of(done.faults(ENDS), f"seed {seed}: {name}, {story}")
        words = resume if (box.work / "run" / "config.yaml").exists() else again
    done = box.do(*words)
    if done.code == 2 and words is resume:
        done = box.do(*again)
    none_of([*done.faults((0,)), *differences(box.work / "run", runs / name)], f"seed {seed}: {name}, {story}")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_a_killed_command_on_a_run_leaves_it_whole(seed: int, box: Box, runs: Path) -> None:
    draw = Random(seed)
    run = box.work / "run"
    shutil.copytree(runs / "cif", run)
    words = draw.choice(
        [
            ("eval", "run=run"),
            ("eval", "run=run", "per_point=run/points.csv"),
            ("sample", "run=run", "n=5"),
            ("train", "resume=run"),
            ("report", "run"),
        ]
    )
    how = (
        {"kill_at": draw.randrange(25)} if draw.random() < 0.7 else {"file_size": draw.randrange(1, 3000), "torn": True}
    )
    first = box.do(*words, **how)
    problems = first.faults(ENDS)
    for again in (words, ("eval", "run=run"), ("train", "resume=run")):
        problems += box.do(*again).faults((0,))
    own = ("only in one: samples.npy", "only in one: points.csv", "only in one: report")
    problems += [problem for problem in differences(run, runs / "cif") if not problem.startswith(own)]
    none_of(problems, f"seed {seed}: {' '.join(words)}, {how}: {first.code}")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_killed_sweep_does_what_is_left(seed: int, box: Box, runs: Path) -> None:
    draw = Random(seed)
    words = ["train", "-m", *TINY, *FEW, "cif=true,false", "sweep.name=sweep"]
    story = []
    for _ in range(draw.randrange(1, 3)):
        how = {"kill_at": draw.randrange(120)} if draw.random() < 0.6 else {"kill_after": draw.randrange(1, 25)}
        done = box.do(*words, **how)
        story.append(f"{how}: {done.code}")
    done = box.do(*words)
    none_of(done.faults((0,)), f"seed {seed}: {story}")
    ours, theirs = box.work / "multirun" / "sweep", runs / "multirun" / "sweep"
    jobs, done_jobs = (sorted(path.name for path in sweep.iterdir() if path.is_dir()) for sweep in (theirs, ours))
    problems = [] if jobs == done_jobs else [f"the jobs are {done_jobs}"]
    for job in jobs:
        problems += [f"{job}: {problem}" for problem in differences(ours / job, theirs / job)]
    none_of(problems, f"seed {seed}: {story}")
