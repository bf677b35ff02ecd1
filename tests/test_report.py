"""Many runs as one table: what is a group, what is best, and what is never dropped."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from cifrun.cli import main
from cifrun.config import Config
from cifrun.report import Report, find_runs
from cifrun.run import RunDirectory
from cifrun.trainer import train


def write(path: Path, *, status: str = "completed", likelihood: float = -1.5, **settings: Any) -> Path:
    """A run directory as training leaves it, with this test result."""
    groups: dict[str, Any] = {
        "dataset": {"name": "two_uniforms"},
        "flow": {"family": "resflow"},
        "cif": True,
        "seed": 1,
        "trainer": {"max_steps": 100},
    }
    config = Config.parse({**groups, **settings})
    run = RunDirectory(path)
    run.create(config)
    test = {"log_likelihood": likelihood, "log_likelihood_se": 0.01, "kl_to_truth": -1.386 - likelihood}
    result = {"test": {**test, "exact": not config.cif, "importance_samples": 20}} if status == "completed" else {}
    steps = {"steps": 100, "parameters": 1234, "wall_seconds": 60.0}
    run.write_summary({"status": status, **steps, **result})
    (path / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": k, "valid/log_likelihood": likelihood - 1 / k}) + "\n" for k in (10, 20, 40))
    )
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed, plain, cif in ((1, -1.60, -1.45), (2, -1.62, -1.43), (3, -1.61, -1.46)):
        write(tmp_path / f"plain{seed}", cif=False, seed=seed, likelihood=plain)
        write(tmp_path / f"cif{seed}", seed=seed, likelihood=cif)
    return tmp_path


def read(directory: Path) -> Report:
    return Report(*find_runs([directory]))


def test_runs_that_differ_in_their_seed_alone_are_one_group(runs: Path) -> None:
    plain, cif = read(runs).groups
    assert [plain.name, cif.name] == ["resflow plain", "resflow CIF"]
    assert len(plain.runs) == len(cif.runs) == 3
    cell = cif.cells["log_likelihood"]
    values = [-1.45, -1.43, -1.46]
    assert cell.mean == pytest.approx(statistics.fmean(values))
    assert cell.se == pytest.approx(statistics.stdev(values) / math.sqrt(3))
    assert cell.rank == "best" and plain.cells["log_likelihood"].rank == ""


def test_settings_that_tell_groups_apart_are_columns(runs: Path) -> None:
    write(runs / "deep", flow={"family": "resflow", "depth": 4}, likelihood=-1.44)
    write(runs / "slow", optimizer={"name": "adam", "lr": 1e-4}, likelihood=-1.9)
    report = read(runs)
    assert report.columns == ["flow.depth", "optimizer.lr"]
    ranks = {report.label(group): group.cells["log_likelihood"].rank for group in report.groups}
    # −1.4467 ± 0.0088 and −1.44 ± 0.01 are not told apart.
    assert ranks["resflow CIF, flow.depth 4, optimizer.lr 0.001"] == "best"
    assert ranks["resflow CIF, flow.depth 10, optimizer.lr 0.001"] == "near"
    assert ranks["resflow CIF, flow.depth 10, optimizer.lr 0.0001"] == ""


def test_the_best_is_that_of_each_dataset(runs: Path) -> None:
    write(runs / "rings", dataset={"name": "rings"}, cif=False, likelihood=-3.0)
    write(runs / "rings_cif", dataset={"name": "rings"}, likelihood=-2.5)
    best = [(g.dataset, g.name) for g in read(runs).groups if g.cells["log_likelihood"].rank == "best"]
    assert best == [("rings", "resflow CIF"), ("two_uniforms", "resflow CIF")]
    kl = [(g.dataset, g.name) for g in read(runs).groups if g.cells["kl_to_truth"].rank == "best"]
    assert kl == best  # where less is better


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


def test_a_run_that_was_repeated_counts_once(runs: Path) -> None:
    write(runs / "again", seed=1, likelihood=-1.40)
    report = read(runs)
    assert len(report.groups[1].runs) == 3 and [run.path.name for run in report.repeated] == ["cif1"]
    assert report.groups[1].cells["log_likelihood"].mean == pytest.approx((-1.40 - 1.43 - 1.46) / 3)


def test_one_seed_has_the_error_over_its_test_data(tmp_path: Path) -> None:
    write(tmp_path / "one", likelihood=-1.5)
    report = read(tmp_path)
    cell = report.groups[0].cells["log_likelihood"]
    assert (cell.mean, cell.se, cell.rank) == (-1.5, 0.01, "")
    assert "1 *" in report.text() and "over its test data" in report.text()


def test_the_four_files(runs: Path) -> None:
    write(runs / "deep", flow={"family": "resflow", "depth": 4}, likelihood=-1.44)
    (runs / "cif1/figures/density.png").write_bytes(b"\x89PNG picture")
    report = read(runs)
    written = {path.suffix: path.read_text() for path in report.write(runs / "report")}
    rows = list(csv.DictReader(io.StringIO(written[".csv"])))
    assert [row["cif"] for row in rows] == ["false", "true", "true"]
    for row, group in zip(rows, report.groups, strict=True):
        assert float(row["log_likelihood"]) == group.cells["log_likelihood"].mean
        assert int(row["seeds"]) == len(group.runs)
    assert written[".md"].count("\n| two_uniforms") == 3 and "**−1.44" in written[".md"]
    assert r"two\_uniforms" in written[".tex"] and r"$\mathbf{-1.440 \pm 0.010}$" in written[".tex"]
    page = written[".html"]
    assert re.findall(r'(?:src|href)="(?!data:)', page) == [] and "http" not in page
    assert page.count("data:image/png;base64,") == 2  # the curves, and the one figure there is
    # Its own output is no run, and reading again finds the same.
    assert len(read(runs).groups) == 3


def test_from_training_to_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2):
        config = Config.parse(
            {
                "dataset": {"name": "two_uniforms", "num_train": 100, "num_valid": 50, "num_test": 50},
                "flow": {"family": "affine", "depth": 1},
                "seed": seed,
                "trainer": {"max_steps": 3, "batch_size": 50, "progress": False, "valid_every": 1},
                "eval": {"importance_samples": 2},
            }
        )
        train(config, tmp_path / f"seed{seed}")
    capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"two_uniforms +affine CIF +2 .*IWAE_2", out)
    assert (tmp_path / "report/report.html").is_file()
    assert main(["report", str(tmp_path), f"output={tmp_path / 'elsewhere'}", "--watch"]) == 0
    assert (tmp_path / "elsewhere/report.csv").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "cifrun report needs a directory"),
        (["nowhere"], "there is no directory nowhere"),
        (["."], "there are no runs in ."),
        ([".", "format=pdf"], "but got 'format=pdf'"),
    ],
)
def test_mistakes_get_a_sentence(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *words]) == 2
    assert sentence in capsys.readouterr().err
