"""Directories that are reserved for jobs: nobody else has them, their names tell the jobs, and empty ones go."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from cifrun.cli.resolvers import Directories, directories, job_name
from tests.cli.helpers import tree


def test_reserving_is_atomic(tmp_path: Path) -> None:
    mine = Directories()
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(mine.reserve, [tmp_path / "day" / "time"] * 16))
    assert len(set(made)) == 16
    mine.release()
    assert tree(tmp_path) == []


def test_names_of_jobs_are_short_and_differ(tmp_path: Path) -> None:
    long = ",".join(f"flow.key{k}=/some/value" for k in range(40))
    sweep = os.path.relpath(tmp_path / "sweep")
    with directories.command(dry=False):
        names = [job_name(None, sweep, long + suffix) for suffix in ("=1", "=2", "=2")]
    assert len(set(names)) == 3
    assert all(len(str(tmp_path / "sweep" / name)) < 200 and "/" not in name for name in names)


@pytest.mark.parametrize("numbers", [("1e20", "1e-20"), ("0.1", "0.10001"), ("-1", "1")])
def test_numbers_that_look_alike_have_names_of_their_own(numbers: tuple[str, str]) -> None:
    with directories.command(dry=False):
        names = [job_name("s", "sweep", f"optimizer.lr={number}") for number in numbers]
    assert names == [f"optimizer.lr={number}" for number in numbers]


def test_in_a_named_sweep_or_on_an_engine_a_job_keeps_its_name(tmp_path: Path) -> None:
    assert directories.elsewhere()  # no command was given to this process, as to one that an engine starts
    with directories.command(dry=False):
        assert not directories.elsewhere()
        assert [job_name("s", "sweep", "seed=1") for _ in range(2)] == ["seed=1"] * 2
        assert [job_name(None, "sweep", "seed=1") for _ in range(2)] == ["seed=1", "seed=1-1"]
    assert [job_name(None, "sweep", "seed=1") for _ in range(2)] == ["seed=1"] * 2
    assert tree(tmp_path) == []


def test_a_dry_command_makes_no_directory(tmp_path: Path) -> None:
    with directories.command(dry=True):
        assert directories.reserve(tmp_path / "run") == tmp_path / "run"
    assert tree(tmp_path) == []


def test_a_setting_may_depend_on_how_many_rows_a_table_has(tmp_path: Path) -> None:
    table = tmp_path / "a, b.csv"
    table.write_text("a,b\n" + "".join(f"{k % 7},{k * k % 11}\n" for k in range(100)))
    node = {
        "dataset": {"name": "file", "path": str(table), "test_fraction": 0.1, "valid_fraction": 0.1},
        "width": "${cifrun.by_rows:${dataset},{0:[8],80:[16,16],81:[32]}}",
        "steps": "${cifrun.by_rows:${dataset},{0:5,1000:7}}",
    }
    config = OmegaConf.create(node)
    assert config.width == [16, 16] and config.steps == 5
    config.dataset.valid_fraction = 0.09
    assert config.width == [32]
    with pytest.raises(InterpolationResolutionError, match="no choice for a small table"):
        OmegaConf.create({**node, "width": "${cifrun.by_rows:${dataset},{500:[8]}}"}).width  # noqa: B018
    config.dataset.path = str(tmp_path / "none.csv")  # whoever loads it says so
    assert config.width == [8]
