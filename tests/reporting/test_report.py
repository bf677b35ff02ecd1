"""Many runs as one table: what is a group, what is best, and what is never dropped."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import math
import re
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cifrun.cli.main import main
from cifrun.config.schema import Config
from cifrun.reporting.report import Cell, Report, find_runs
from cifrun.runs.directory import RunDirectory
from cifrun.training.loop import train


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
    assert written[".md"].count("\n| two_uniforms") == 2 * 3 and "**−1.44" in written[".md"]  # of fit and of cost
    assert r"two\_uniforms" in written[".tex"] and r"$\mathbf{-1.440 \pm 0.010}$" in written[".tex"]
    page = written[".html"]
    assert re.findall(r'(?:src|href)="(?!data:)', page) == [] and "http" not in page
    assert page.count("data:image/png;base64,") == 2  # the curves, and the one figure there is
    # Its own output is no run, and reading again finds the same.
    assert len(read(runs).groups) == 3


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Two flows, plain and indexed, three seeds each, with all that diagnostics find, and numbers of some width."""
    for k, (family, cif, seed) in enumerate(itertools.product(("nsf_coupling", "resflow"), (False, True), (1, 2, 3))):
        path = write(tmp_path / f"run{k}", flow={"family": family}, cif=cif, seed=seed, likelihood=-1.5 - k / 100)
        summary = json.loads((path / "summary.json").read_text())
        found = {"mass_off_support": 0.02 + k / 1e3, "mass_misplaced": 0.06 + k / 999, "coverage": 0.95 + k / 1e4}
        found |= {"bi_lipschitz": 12345.6 * (1 + k), "round_trip_samples_float32": 1.5e-6 * (1 + k)}
        if cif:
            found |= {"gap": 0.01 + k / 1e4, "ess": 97.5 + k / 10, "pareto_k": -0.05 - k / 100, "bracket_gap": -k / 1e5}
        elif family == "resflow":
            found["lipschitz_ceiling"] = 1e10
        costs = {"parameters": 10_469_134, "steps": 200_000, "wall_seconds": 54321.0}
        (path / "summary.json").write_text(json.dumps({**summary, **costs, "test": {**summary["test"], **found}}))
    return tmp_path


def test_what_is_told_of_an_estimate_is_of_indexed_flows(measured: Path) -> None:
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


def test_the_page_needs_no_scrolling_sideways(measured: Path) -> None:
    """In a browser: at the width of a laptop's window and of a phone, nothing is wider than the place it has."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("needs Chromium")
    page = read(measured).page()
    assert page.count("<table>") == 5
    frames = "".join(f'<iframe width="{width}" srcdoc="{html.escape(page)}"></iframe>' for width in (1200, 390))
    script = """onload = () => { for (const frame of document.querySelectorAll("iframe")) {
        const wide = [...frame.contentDocument.querySelectorAll("*")].filter(e => e.scrollWidth > e.clientWidth + 1
            && (e.matches("html") || getComputedStyle(e).overflowX != "visible"));
        const told = wide.map(e => `${e.innerText.slice(0, 30)} ${e.scrollWidth} > ${e.clientWidth}`);
        frame.outerHTML = `<p>at ${frame.width} too wide: ${told}.</p>` } }"""
    file = measured / "frames.html"
    file.write_text(f'<meta charset="utf-8">{frames}<script>{script}</script>', encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={measured / 'browser'}"]
    told = ["--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom", file.as_uri()]
    done = subprocess.run([browser, *options, *told], capture_output=True, text=True, timeout=120)
    assert "at 1200 too wide: ." in done.stdout and "at 390 too wide: ." in done.stdout, done.stdout
    assert "CONSOLE" not in done.stderr


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
