"""What was typed: any order, any path, and over a run's config nothing but that."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifrun.cli.main import main
from cifrun.cli.overrides import overlay
from cifrun.config.roles import changeable, command_defaults
from cifrun.config.schema import Config
from cifrun.runs.directory import RunDirectory
from tests.cli.helpers import Call


def test_verb_and_options_go_anywhere(calls: list[Call]) -> None:
    assert main(["-m", "train", "seed=1,2", "--config-dir", ".", "flow=maf"]) == 0
    assert [config.seed for _, _, config in calls] == [1, 2]
    assert main(["train", "seed=1,2", "-m", "flow=maf"]) == 0
    assert [config.flow.family for _, _, config in calls] == ["maf"] * 4


@pytest.mark.parametrize("name", ["a=b, (1)", "it's", "back\\", "#x y", "dataset=rings--seed=1"])
def test_paths_need_no_quoting_for_hydra(name: str, calls: list[Call], run: Path, tmp_path: Path) -> None:
    moved = run.rename(tmp_path / name)
    assert main(["eval", f"run={moved}"]) == 0
    assert calls[0][1] == moved


def test_eval_changes_only_what_was_typed(calls: list[Call], run: Path) -> None:
    saved = RunDirectory(run).config()
    assert main(["eval", f"run={run}", "eval.importance_samples=7", "seed=8"]) == 0
    (verb, directory, config) = calls[0]
    assert (verb, directory, config.run) == ("eval", run, run)
    assert (config.eval.importance_samples, config.eval.chunk_size, config.seed) == (7, 77, 8)
    assert (config.flow, config.dataset, config.device) == (saved.flow, saved.dataset, saved.device)
    assert (config.cif, config.optimizer) == (False, saved.optimizer)


def test_a_group_is_taken_whole(calls: list[Call], run: Path) -> None:
    assert main(["eval", f"run={run}", "eval=default", "device=auto", "device.precision=fp64"]) == 0
    config = calls[0][2]
    assert config.eval.chunk_size == "auto"
    assert (config.device.accelerator, config.device.precision) == ("auto", "fp64")


def test_a_run_from_before_a_group_existed_takes_what_is_typed_of_it() -> None:
    composed = {"eval": {"seed": 3, "chunk_size": "auto"}, "run": None, "n": 1000}
    data = overlay({"flow": {"depth": 3}}, composed, ["eval.seed=3"], "eval")
    kept = {"diagnostics": {"enabled": False}}  # those of training
    assert data == {"flow": {"depth": 3}, "eval": {"seed": 3}, "run": None, "n": 1000, **kept}


def test_what_may_be_typed_beside_a_run_is_there_and_names_each_key_of_one_command() -> None:
    typed = {key for verb in ("train", "eval", "sample") for key in changeable(verb)}
    assert set(command_defaults()) <= typed <= set(Config.__pydantic_fields__)  # type: ignore[attr-defined]
