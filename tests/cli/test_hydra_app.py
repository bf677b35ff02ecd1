"""Composing: what arrives behind a verb, where runs go, and what leaves no trace."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cifrun.cli import jobs
from cifrun.cli.hydra_app import configure
from cifrun.cli.main import main
from cifrun.config.schema import Config
from cifrun.errors import ConfigError
from tests.cli.helpers import Call, tree


def test_overrides_arrive(calls: list[Call], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset=two_uniforms", "flow=maf", "cif=false", "flow.depth=4", "index.dim=2", "objective=iwae"]
    assert main(["train", *words, "optimizer=adamw", "device=cpu", "trainer.max_steps=9", "seed=3"]) == 0
    (verb, directory, config) = calls[0]
    assert verb == "train"
    assert (config.dataset.name, config.flow.family, config.flow.depth) == ("two_uniforms", "maf", 4)
    assert (config.cif, config.index.dim, config.seed) == (False, 2, 3)
    assert (config.objective.name, config.objective.importance_samples) == ("iwae", 10)
    assert (config.optimizer.name, config.device.accelerator, config.trainer.max_steps) == ("adamw", "cpu", 9)
    assert directory.is_absolute()
    assert capsys.readouterr() == ("", "")


def test_run_directory_holds_what_the_trainer_writes_and_nothing_else(calls: list[Call], tmp_path: Path) -> None:
    assert main(["train"]) == 0
    directory = calls[0][1]
    assert tree(directory) == ["config.yaml"]
    assert directory.parent.parent == tmp_path / "outputs"


def test_runs_of_the_same_second_do_not_share_a_directory(calls: list[Call]) -> None:
    for _ in range(3):
        assert main(["train"]) == 0
    assert len({directory for _, directory, _ in calls}) == 3


def test_the_process_looks_as_typed_while_a_job_runs(calls: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["/bin/cifrun", "train", "flow=maf"]
    monkeypatch.setattr(sys, "argv", argv)
    seen: list[Any] = []
    monkeypatch.setattr(jobs, "_score", lambda _: seen.append((sys.argv, os.environ.get("HYDRA_FULL_ERROR"))))
    assert main() == 0
    assert seen == [(argv, None)]
    assert sys.argv is argv
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_multirun_names_each_job_by_its_overrides(calls: list[Call], tmp_path: Path) -> None:
    assert main(["train", "-m", "dataset=rings,two_moons", "cif=true,false", "flow.hidden=[8,8]", "flow=maf"]) == 0
    names = [directory.name for _, directory, _ in calls]
    assert len(set(names)) == 4
    assert names[0] == "cif=true--dataset=rings"
    assert {directory.parent for _, directory, _ in calls} == {calls[0][1].parent}
    assert calls[0][1].parent.parent.parent == tmp_path / "multirun"


def test_multirun_twice_and_the_same_job_twice(calls: list[Call]) -> None:
    for _ in range(2):
        assert main(["train", "-m", "seed=1,1"]) == 0
    assert len({directory for _, directory, _ in calls}) == 4


def test_a_multirun_that_can_not_be_composed_starts_no_job(calls: list[Call], tmp_path: Path) -> None:
    assert main(["train", "-m", "dataset=two_moons,two_moon"]) == 2
    assert calls == []
    assert tree(tmp_path) == []


@pytest.mark.parametrize(
    "subdir",
    [
        "a/b/${hydra.job.num}",
        "../../x",
        "/tmp/x",
        "'x/../..'",
        "${oc.env:UP}/${hydra.job.num}",
        "${oc.decode:..}/x",
        "'a/${oc.env:UP}/x'",
    ],
)
def test_jobs_that_are_refused_leave_no_folder(
    subdir: str, calls: list[Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UP", "../../../x")
    here = tmp_path / "a" / "b" / "c"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    assert main(["train", "-m", f"hydra.sweep.subdir={subdir}", "trainer.max_steps=0,-1"]) == 2
    assert tree(tmp_path) == ["a", "a/b", "a/b/c"] and calls == []


def test_the_folder_of_each_job_may_have_any_name(calls: list[Call]) -> None:
    for subdir in ("x/${hydra.job.num}", "'job ${hydra.job.num}, (a)'", "it is ${seed}"):
        assert main(["train", "-m", "hydra.sweep.dir=sweep", f"hydra.sweep.subdir={subdir}", "seed=1,2"]) == 0
    places = [str(directory.relative_to(Path.cwd() / "sweep")) for _, directory, _ in calls]
    assert places == ["x/0", "x/1", "job 0, (a)", "job 1, (a)", "it is 1", "it is 2"]


def test_eval_sample_show_and_printing_a_config_make_no_files(calls: list[Call], run: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    for words in (["eval", f"run={run}"], ["sample", f"run={run}"], ["show", "flow=maf", "flow.depth=1"]):
        assert main(words) == 0
    for words in (["train", "--cfg", "all", "--resolve"], ["--info", "config"], ["--cfg", "hydra", "--resolve"]):
        assert main(words) == 0
    assert tree(tmp_path) == before


def test_cfg_prints_the_composed_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--cfg", "job", "--resolve", "experiment=two_d_maf", "cif=false"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert Config.parse(yaml.safe_load(out)).flow.depth == 20


def test_read_only_folder(
    calls: list[Call], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert main(["train"]) == 2
    assert "Read-only file system" in capsys.readouterr().err


def test_from_python_a_config_is_composed_and_nothing_is_made(tmp_path: Path) -> None:
    config = configure(["experiment=two_d_maf", "cif=false", "dataset=file", "dataset.path=a, b.csv"])
    assert (config.flow.family, config.cif, config.dataset.path.name) == ("maf", False, "a, b.csv")
    with pytest.raises(ConfigError, match=r"no key 'flow\.dept'.*did you mean 'flow\.depth'"):
        configure(["flow.dept=3"])
    assert tree(tmp_path) == []
