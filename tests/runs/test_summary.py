"""`summary.json` comes back as it was written, and what no run has written there is refused by its name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from cifrun.errors import RunError
from cifrun.runs.directory import RunDirectory
from cifrun.runs.metrics import NUMBERS
from cifrun.runs.summary import KINDS, TEST

HEAD: dict[str, Any] = {
    "status": "completed", "error": None,
    "dataset": "two_moons", "data_fingerprint": None, "data_warnings": [], "flow": "maf",
    "cif": True, "seed": 1, "parameters": 1234, "steps": 100, "skipped_steps": 0, "best_valid_log_likelihood": -1.5,
    "wall_seconds": 2.5, "device": "cpu", "versions": {"torch": "2.6"}, "git_commit": None,
}  # fmt: skip
RESULT: dict[str, Any] = {"log_likelihood": -1.5, "log_likelihood_se": 0.01, "exact": False, "importance_samples": 20}
#: What diagnostics add: verdicts, tables, and what was left out.
MORE: dict[str, Any] = {"pareto_k_verdict": "good", "components": [{"name": "left", "mass": 0.5}], "left_out": []}


def test_what_was_written_is_read_with_null_for_what_is_no_number(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.summary() == {}
    run.write_summary({**HEAD, "wall_seconds": math.inf, "test": {**RESULT, **MORE, "log_likelihood_se": math.nan}})
    test = {**RESULT, **MORE, "log_likelihood_se": None}
    assert run.summary() == {**HEAD, "wall_seconds": None, "test": test}
    assert set(HEAD) | {"test"} == set(KINDS)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("status", [None, 1, ["completed"]]),
        ("data_fingerprint", [0, True, ["a"]]),
        ("cif", [None, 1, "true"]),
        ("seed", [-1, 1.5, None, True, 10**30]),
        ("best_valid_log_likelihood", ["-1.5", True, [-1.5]]),
        ("wall_seconds", ["2", False, {}]),
        ("versions", [None, ["2.6"], "2.6"]),
        ("test", [None, [], "good", 3]),
    ],
)
def test_a_field_of_another_kind_is_named(name: str, values: list[Any], tmp_path: Path) -> None:
    for value in values:
        (tmp_path / "summary.json").write_text(json.dumps({**HEAD, name: value}))
        with pytest.raises(RunError, match=rf"^\S+summary\.json is damaged: '{name}' is .* and should be "):
            RunDirectory(tmp_path).summary()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("log_likelihood", ["-1.5", True, [1.0], {}]),
        ("kl_to_truth_se", ["0", {}, 10**30]),
        ("exact", [None, 1, "yes"]),
        ("importance_samples", [None, -1, 2.0]),
        ("unheard_of", [True, {}]),
    ],
)
def test_a_test_result_of_another_kind_is_named(name: str, values: list[Any], tmp_path: Path) -> None:
    for value in values:
        (tmp_path / "summary.json").write_text(json.dumps({**HEAD, "test": {**RESULT, name: value}}))
        with pytest.raises(RunError, match=rf"^'test' of \S+summary\.json is damaged: '{name}' is "):
            RunDirectory(tmp_path).summary()


def test_every_metric_of_a_test_result_may_be_a_number_or_null_and_so_may_its_error() -> None:
    for metric in NUMBERS:
        assert TEST[metric.name] == TEST[f"{metric.name}_se"] == ("a number", "null")
