"""What a command reads is never what it writes over."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from cifrun.config.schema import Config
from cifrun.errors import ConfigError
from cifrun.evaluation.evaluate import evaluate
from cifrun.evaluation.outputs import check_output
from cifrun.evaluation.sample import sample
from cifrun.io.table_files import TABLES


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "my.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    return path


@pytest.fixture
def config(data: Path) -> Config:
    dataset = {"name": "file", "path": str(data)}
    return Config.parse({"dataset": dataset, "flow": {"family": "affine"}, "cif": False})


@pytest.mark.parametrize("way", ["as it is", "around", "symbolic link", "hard link"])
def test_the_data_of_a_run_are_not_written_over(way: str, data: Path, config: Config) -> None:
    path, other = data, data.with_name("other.csv")
    if way == "around":
        path = data.parent / "x" / ".." / "my.csv"
        (data.parent / "x").mkdir()
    elif way == "symbolic link":
        other.symlink_to(data)
        path = other
    elif way == "hard link":
        os.link(data, other)
        path = other
    before = data.read_text()
    for act in (
        lambda: evaluate(data.parent / "run", replace(config, per_point=path)),
        lambda: evaluate(data.parent / "run", replace(config, per_point=path, data=data)),
        lambda: sample(data.parent / "run", replace(config, output=path)),
    ):
        with pytest.raises(ConfigError, match="would overwrite the data: choose another file"):
            act()
    assert data.read_text() == before


def test_other_files_may_be_written_over(data: Path, config: Config) -> None:
    (data.parent / "points.csv").write_text("old")
    for name in ("points.csv", "new.tsv"):
        assert check_output("per_point", data.parent / name, TABLES, config) == Path(name).suffix
    with pytest.raises(ConfigError, match="there is no such folder"):
        check_output("per_point", data.parent / "nowhere" / "x.csv", TABLES, config)
