"""Many runs as one table: what is a group, what is best, and what is never dropped."""

from __future__ import annotations

import json
import math
import re
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cifrun.reporting.groups import Cell
from cifrun.reporting.significance import mean_over_seeds
from cifrun.runs.directory import RunDirectory

from .example_runs import read, write, write_measured, write_pairs


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path)


def test_runs_that_differ_in_their_seed_alone_are_one_group(runs: Path) -> None:
    plain, cif = read(runs).groups
    assert [plain.name, cif.name] == ["resflow", "CIF of resflow"]
    assert len(plain.runs) == len(cif.runs) == 3
    cell = cif.cells["log_likelihood"]
    values = [-1.45, -1.43, -1.46]
    assert cell.mean == pytest.approx(statistics.fmean(values))
    assert cell.se == pytest.approx(statistics.stdev(values) / math.sqrt(3))
    assert cell.rank == "best" and plain.cells["log_likelihood"].rank == ""


def test_settings_that_tell_groups_apart_are_columns(runs: Path) -> None:
    write(runs / "deep", flow={"family": "resflow", "depth": 4}, likelihood=-1.44)
    write(runs / "slow", optimizer={"lr": 1e-4}, likelihood=-1.9)
    report = read(runs)
    assert report.columns == ["flow.depth", "optimizer.lr"]
    ranks = {report.label(group): group.cells["log_likelihood"].rank for group in report.groups}
    # −1.4467 ± 0.0088 and −1.44 ± 0.01 do not differ significantly.
    assert ranks["CIF of resflow, flow.depth 4, optimizer.lr 0.03"] == "best"
    assert ranks["CIF of resflow, flow.depth 10, optimizer.lr 0.03"] == "near"
    assert ranks["CIF of resflow, flow.depth 10, optimizer.lr 0.0001"] == ""


def test_the_chance_of_a_false_alarm_is_told_of_what_it_is_true_of(runs: Path) -> None:
    rate, seed = "of those of equal models, with several seeds each, at most 5 %", "The error of one seed leaves out"

    def told() -> list[bool]:
        notes = " ".join(read(runs).notes())
        assert "tables of equal models" not in notes
        return [rate in notes, seed in notes]

    assert told() == [True, False]
    write(runs / "rings", dataset={"name": "rings"}, cif=False)
    assert told() == [True, False]  # alone: with nothing compared
    write(runs / "rings_cif", dataset={"name": "rings"})
    assert told() == [True, True]
    for path in runs.glob("*[23]"):
        shutil.rmtree(path)
    assert told() == [False, True]


def test_the_best_is_that_of_each_dataset(runs: Path) -> None:
    write(runs / "rings", dataset={"name": "rings"}, cif=False, likelihood=-3.0)
    write(runs / "rings_cif", dataset={"name": "rings"}, likelihood=-2.5)
    best = [(g.dataset, g.name) for g in read(runs).groups if g.cells["log_likelihood"].rank == "best"]
    assert best == [("rings", "CIF of resflow"), ("two_uniforms", "CIF of resflow")]
    kl = [(g.dataset, g.name) for g in read(runs).groups if g.cells["kl_to_truth"].rank == "best"]
    assert kl == best  # where less is better


def test_files_are_compared_by_what_they_hold(tmp_path: Path) -> None:
    """The same table in two places is one dataset; another of the same name, or other columns, another."""

    def run(name: str, path: str, content: str, likelihood: float, **more: object) -> None:
        written = write(tmp_path / name, dataset={"name": "file", "path": path, **more}, likelihood=likelihood)
        summary = json.loads((written / "summary.json").read_text())
        (written / "summary.json").write_text(json.dumps({**summary, "data_fingerprint": content}))

    run("a", "/data/heights.csv", "aaaaaaaa", -2.0)
    run("moved", "/elsewhere/heights.csv", "aaaaaaaa", -1.0)
    run("other", "/other/heights.csv", "bbbbbbbb", -3.0)
    run("narrow", "/data/heights.csv", "aaaaaaaa", -4.0, columns=["h"])
    run("another", "/data/weights.csv", "cccccccc", -5.0)
    report = read(tmp_path)
    found = {(g.dataset, g.cells["log_likelihood"].mean) for g in report.groups}
    assert found == {
        ("heights (columns all, content aaaaaa)", -1.0),
        ("heights (columns all, content bbbbbb)", -3.0),
        ("heights (columns ['h'], content aaaaaa)", -4.0),
        ("weights", -5.0),
    }
    assert len(report.repeated) == 1  # the same settings and seed on the same data
    assert all(g.cells["log_likelihood"].rank == "" for g in report.groups) and report.columns == []


def test_targets_of_other_parameters_are_other_data(tmp_path: Path) -> None:
    for noise, likelihood in ((0.1, -1.0), (0.1, -1.2), (0.2, -2.0)):
        cif = likelihood == -1.0
        write(tmp_path / f"{likelihood}", dataset={"name": "rings", "noise": noise}, likelihood=likelihood, cif=cif)
    ranks = {(g.dataset, g.name): g.cells["log_likelihood"].rank for g in read(tmp_path).groups}
    assert ranks == {
        ("rings (noise 0.1)", "resflow"): "",
        ("rings (noise 0.1)", "CIF of resflow"): "best",
        ("rings (noise 0.2)", "resflow"): "",
    }


def test_nothing_is_dropped(runs: Path) -> None:
    write(runs / "failed", status="failed", seed=4)
    write(runs / "killed", status="running", seed=5)
    (runs / "begun").mkdir()
    (runs / "begun/config.yaml").write_text((runs / "cif1/config.yaml").read_text())
    (runs / "damaged").mkdir()
    (runs / "damaged/config.yaml").write_text("a: [")
    write(runs / "half", seed=6)
    (runs / "half/summary.json").write_text('{"status": "comp')
    text = read(runs).text()
    for line in (
        r"failed: failed, step 40 of 100, last wrote \d+ s ago",
        r"killed: running, or killed, step 40 of 100",
        r"begun: begun, step 0 of 100",
        r"damaged/config\.yaml can't be read as YAML",
        r"half/summary\.json can't be read as JSON",
    ):
        assert re.search(line, text)
    assert all(len(group.runs) == 3 for group in read(runs).groups)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": [1, 2]}, r"'seed' is \[1, 2\], and should be a whole number from 0"),
        ({"cif": "maybe"}, "'cif' is 'maybe', and should be true or false"),
        ({"flow": {"family": ["x"]}}, r"'flow\.family' is \['x'\], and should be a text"),
        ({"flow": {1: 2}}, r"has no 'flow\.family'"),
        ({"flow": [1, 2]}, "does not hold the configuration of a run"),
        ({"dataset": {"name": "two_uniforms", "seed": [3]}}, None),  # of which nothing is known: its own group
    ],
)
def test_one_run_whose_config_was_altered_ends_no_report(
    change: dict[str, Any], sentence: str | None, runs: Path
) -> None:
    file = write(runs / "altered", seed=9) / "config.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | change))
    text = read(runs).text()
    assert sentence is None or re.search(rf"altered/config\.yaml .*{sentence}", text)
    assert sorted(len(group.runs) for group in read(runs).groups)[-2:] == [3, 3]


def test_one_run_whose_metrics_can_not_be_read_ends_no_report(runs: Path) -> None:
    run = write(runs / "altered", seed=9)
    (run / "metrics.jsonl").unlink(missing_ok=True)
    (run / "metrics.jsonl").mkdir()
    assert re.search(r"altered/metrics\.jsonl can't be read", read(runs).text())


def test_a_run_that_was_repeated_counts_once(runs: Path) -> None:
    write(runs / "again", seed=1, likelihood=-1.40)
    report = read(runs)
    assert len(report.groups[1].runs) == 3 and [run.path.name for run in report.repeated] == ["cif1"]
    assert report.groups[1].cells["log_likelihood"].mean == pytest.approx((-1.40 - 1.43 - 1.46) / 3)


def test_data_with_warnings_are_named(runs: Path) -> None:
    assert "Something is wrong" not in read(runs).text()
    run = RunDirectory(write(runs / "file", dataset={"name": "file", "path": "x.csv"}))
    run.write_summary({**run.summary(), "data_warnings": ["few distinct values"]})
    assert "Something is wrong with the data of x: data_warnings in summary.json says what." in read(runs).text()


def test_one_seed_has_the_error_over_its_test_data(tmp_path: Path) -> None:
    write(tmp_path / "one", likelihood=-1.5)
    report = read(tmp_path)
    cell = report.groups[0].cells["log_likelihood"]
    assert (cell.mean, cell.se, cell.rank) == (-1.5, 0.01, "")
    assert "1 *" in report.text() and "over its test data" in report.text()


def test_what_is_told_of_an_estimate_is_of_indexed_flows(tmp_path: Path) -> None:
    measured = write_measured(tmp_path)
    write(measured / "without", flow={"family": "maf"}, cif=False)
    parts = {part.theme.name: part for part in read(measured).tables()}
    assert list(parts) == ["fit", "topology", "invertibility", "trust", "cost"]
    for part in parts.values():
        assert {len(row) for row in part.rows} == {len(part.header)} == {len(part.align)}
    maf, *others = parts["trust"].rows
    for row, indexed in zip([maf, *others], (False, False, True, False, True), strict=True):
        assert [isinstance(cell, Cell) for cell in row] == [indexed] * 4
    ceilings = [row[1] for row in parts["invertibility"].rows]
    assert [c if isinstance(c, str) else c.text for c in ceilings] == ["–", "–", "–", "1e10", "–"]
    assert parts["cost"].rows[1] == ["10,469,134", "200,000", "905.4"]


@pytest.mark.parametrize(
    ("mean", "se", "parts"),
    [
        (-1.5, 0.012, ("−1.500", "0.012")),
        (-1.15e-6, 2.8e-7, ("−1.15e−6", "0.28e−6")),
        (1e10, None, ("1e10", "")),
        (0.25, None, ("0.25", "")),
    ],
)
def test_a_number_and_its_error_on_two_lines(mean: float, se: float | None, parts: tuple[str, str]) -> None:
    assert Cell(mean, se).parts == parts


@given(st.floats(-1e3, 1e3), st.integers(2, 20))
def test_equal_values_have_no_error(value, count):
    mean, error = mean_over_seeds([value] * count)
    assert mean == pytest.approx(value) and error == 0


@pytest.mark.parametrize("value", [1.7e308, -1.7e308, 5e-324, 0.0])
def test_no_number_ends_a_report(value: float, runs: Path) -> None:
    """Sums of the largest have no room in a float; the smallest have none below them."""
    for seed in (1, 2, 3):
        file = write(runs / f"large{seed}", flow={"family": "maf"}, seed=seed, likelihood=value) / "summary.json"
        summary = json.loads(file.read_text())
        test = {**summary["test"], "gap": value, "ess": abs(value), "log_likelihood_se": abs(value)}
        file.write_text(json.dumps({**summary, "wall_seconds": abs(value), "test": test}))
    report = read(runs)
    assert len(report.groups) == 3 and report.groups[0].cells["log_likelihood"].mean == pytest.approx(value)
    assert len(report.write(runs / "report")) == 4 and "maf" in report.text()
