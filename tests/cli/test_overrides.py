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


@pytest.mark.parametrize(
    ("words", "expected", "told"),
    [
        (["seed=1", "seed=2"], [2], "seed is given twice: seed=2 counts, and seed=1 does not"),
        (["seed=1", "cif=true", "seed=1"], [1], None),
        (["-m", "seed=1,2", "seed=3"], [3], "seed=3 counts, and seed=1,2 does not"),
        (["seed=3", "seed=1,2", "-m"], [1, 2], "seed=1,2 counts, and seed=3 does not"),
        (["flow=maf", "seed=4", "flow=sos"], [4], "flow=sos counts, and flow=maf does not"),
        (["+flow.kwargs=1", "~flow.kwargs", "seed=5"], [5], None),
    ],
)
def test_of_a_key_that_is_typed_twice_the_last_counts_and_a_line_says_so(
    words: list[str], expected: list[int], told: str | None, calls: list[Call], capsys: pytest.CaptureFixture[str]
) -> None:
    """As where a script adds what it is given to what it has."""
    assert main(["train", *words]) == 0
    assert [config.seed for _, _, config in calls] == expected
    assert len({directory for _, directory, _ in calls}) == len(expected)
    err = capsys.readouterr().err
    assert told in err if told else "twice" not in err


@pytest.mark.parametrize("name", ["a=b, (1)", "it's", "back\\", "#x y", "dataset=rings--seed=1"])
def test_paths_need_no_quoting_for_hydra(name: str, calls: list[Call], run: Path, tmp_path: Path) -> None:
    moved = run.rename(tmp_path / name)
    assert main(["eval", f"run={moved}"]) == 0
    assert calls[0][1] == moved


def test_what_may_be_typed_beside_a_run_is_there_and_names_each_key_of_one_command() -> None:
    typed = {key for verb in ("train", "eval", "sample") for key in changeable(verb)}
    assert set(command_defaults()) <= typed <= set(Config.__pydantic_fields__)  # type: ignore[attr-defined]
