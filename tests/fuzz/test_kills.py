"""Kills: what is done again after one ends bit for bit as what was never stopped, and leaves nothing of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from tests.helpers import assert_same_run

from .box import Box, walk
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


def assert_nothing_is_left(run: Path, reference: Path) -> None:
    """The same files as in a run that never stopped, but for more files of events."""

    def names(folder: Path) -> set[str]:
        return {str(path.relative_to(folder)) for path in walk(folder) if "tfevents" not in path.name}

    assert names(run) == names(reference)


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
        assert not done.faults((0, 2, 130, -9, -25)), f"seed {seed}: {story}\n{done.faults((0, 2, 130, -9, -25))}"
        words = resume if (box.work / "run" / "config.yaml").exists() else again
    done = box.do(*words)
    if done.code == 2 and words is resume:
        done = box.do(*again)
    assert done.code == 0, f"seed {seed}: {name}, {story}\n{done.out}{done.err}"
    try:
        assert_same_run(box.work / "run", runs / name)
        assert_nothing_is_left(box.work / "run", runs / name)
        assert not list(box.temporary.glob("cifrun*"))[3:], "temporary files"
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {name}, {story}\n{error}") from error


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
    assert not first.faults((0, 2, -9, -25)), f"seed {seed}: {how}, {first.faults()}"
    done = box.do(*words)
    assert done.code == 0, f"seed {seed}: {how}: {first.code}\n{done.err}"
    assert box.do("eval", "run=run").code == 0
    assert box.do("train", "resume=run").code == 0
    assert_same_run(run, runs / "cif")
    own = {"samples.npy", "points.csv", "report"}
    left = [p.name for p in walk(run) if p.name.endswith(".tmp")]
    assert not left, f"seed {seed}: {words} {how}: {left} beside {own}"


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
    assert done.code == 0, f"seed {seed}: {story}\n{done.out}{done.err}"
    ours, theirs = box.work / "multirun" / "sweep", runs / "multirun" / "sweep"
    jobs = sorted(path.name for path in theirs.iterdir() if path.is_dir())
    assert sorted(path.name for path in ours.iterdir() if path.is_dir()) == jobs, f"seed {seed}: {story}"
    for job in jobs:
        assert_same_run(ours / job, theirs / job)
        assert_nothing_is_left(ours / job, theirs / job)
