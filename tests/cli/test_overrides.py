"""What was typed: any order, and any path."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifrun.cli.main import main
from cifrun.config.roles import changeable, command_defaults
from cifrun.config.schema import Config
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


def test_what_may_be_typed_beside_a_run_is_there_and_names_each_key_of_one_command() -> None:
    typed = {key for verb in ("train", "eval", "sample") for key in changeable(verb)}
    assert set(command_defaults()) <= typed <= set(Config.__pydantic_fields__)  # type: ignore[attr-defined]
