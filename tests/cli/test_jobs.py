"""Jobs: what each verb gets, and what becomes of a failure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cifrun.cli.jobs import COMMANDS
from cifrun.cli.main import main
from cifrun.config.schema import Config
from cifrun.runs.directory import RunDirectory
from tests.cli.helpers import Call, tree, write_run


def test_eval_takes_other_data_and_a_place_for_scores(calls: list[Call], run: Path) -> None:
    assert main(["eval", f"run={run}", "data=a, b.csv", "per_point=x=1.csv"]) == 0
    assert main(["eval", f"run={run}"]) == 0
    first, second = (config for _, _, config in calls)
    assert (first.data, first.per_point) == (Path("a, b.csv"), Path("x=1.csv"))
    assert (second.data, second.per_point) == (None, None)


def test_sample_takes_number_output_and_seed(calls: list[Call], run: Path) -> None:
    assert main(["sample", f"run={run}", "n=50", "output=x.npy", "seed=6"]) == 0
    assert main(["sample", f"run={run}"]) == 0
    first, second = (config for _, _, config in calls)
    assert (first.n, first.output, first.seed, first.flow.depth) == (50, Path("x.npy"), 6, 3)
    assert (second.n, second.output, second.seed) == (1000, None, 5)


def test_resume_trains_in_the_directory_itself(calls: list[Call], run: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    assert main(["train", f"resume={os.path.relpath(run)}", "trainer.max_steps=7"]) == 0
    (verb, directory, config) = calls[0]
    assert (verb, directory) == ("resume", run)
    assert (config.trainer.max_steps, config.flow.family, config.seed) == (7, "maf", 5)
    assert tree(tmp_path) == before


def test_several_runs_are_evaluated_one_after_another(calls: list[Call], run: Path, tmp_path: Path) -> None:
    write_run(RunDirectory(run).config(), tmp_path / "flow=maf--seed=2")
    before = tree(tmp_path)
    assert main(["eval", "-m", f"run={run},flow=maf--seed=2"]) == 0
    assert [directory.name for _, directory, _ in calls] == ["a run", "flow=maf--seed=2"]
    assert tree(tmp_path) == before


def test_a_config_is_checked_once(calls: list[Call], run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse, parsed = Config.parse, []
    monkeypatch.setattr(Config, "parse", lambda data: parsed.append(data) or parse(data))
    for words in (["train"], ["train", f"resume={run}"], ["eval", f"run={run}"], ["sample", f"run={run}"]):
        parsed.clear()
        assert main(words) == 0
        assert len(parsed) == 1, words


def test_a_failing_job_leaves_the_others_alone(calls: list[Call], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", "flow=maf", "trainer.max_steps=1,0,2", "hydra.sweep.dir=sweep"]) == 2
    assert [config.trainer.max_steps for _, _, config in calls] == [1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    line, last = [line for line in err.splitlines() if line.startswith("cifrun: ")]
    assert last == "cifrun: 0 complete, 1 failed: cifrun report sweep"  # nothing is trained here
    assert line.startswith("cifrun: flow=maf trainer.max_steps=0: trainer.max_steps = 0 is not allowed")
    assert "Error executing" not in err
    done = ["multirun.yaml", "trainer.max_steps=1", "trainer.max_steps=2"]
    assert sorted(os.listdir("sweep")) == done


def test_a_full_disk_is_not_a_bug(
    calls: list[Call], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "metrics.jsonl")

    monkeypatch.setitem(COMMANDS, "train", full)
    assert main(["train"]) == 2
    assert capsys.readouterr().err == "cifrun: 'metrics.jsonl' can't be used: No space left on device\n"


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError, ValueError, FileNotFoundError, AssertionError])
def test_a_bug_is_not_swallowed(error: type[Exception], calls: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise error("a bug")

    monkeypatch.setitem(COMMANDS, "train", broken)
    with pytest.raises(error, match="a bug"):
        main(["train"])


def test_ctrl_c_is_quiet(
    calls: list[Call], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(COMMANDS, "train", interrupted)
    assert main(["train"]) == 130
    assert capsys.readouterr() == ("", "")
