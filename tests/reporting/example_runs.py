"""Run directories as training leaves them, for tests of reports."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from cifrun.config.schema import Config
from cifrun.reporting.report import Report
from cifrun.reporting.runs import find_runs
from cifrun.runs.directory import RunDirectory


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


def read(directory: Path) -> Report:
    """The report of all runs in a directory."""
    return Report(*find_runs([directory]))


def write_pairs(directory: Path) -> Path:
    """A plain flow and its CIF, three seeds each."""
    for seed, plain, cif in ((1, -1.60, -1.45), (2, -1.62, -1.43), (3, -1.61, -1.46)):
        write(directory / f"plain{seed}", cif=False, seed=seed, likelihood=plain)
        write(directory / f"cif{seed}", seed=seed, likelihood=cif)
    return directory


def write_measured(directory: Path) -> Path:
    """Two flows, plain and indexed, three seeds each, with all that diagnostics find, and numbers of some width."""
    for k, (family, cif, seed) in enumerate(itertools.product(("nsf_coupling", "resflow"), (False, True), (1, 2, 3))):
        path = write(directory / f"run{k}", flow={"family": family}, cif=cif, seed=seed, likelihood=-1.5 - k / 100)
        summary = json.loads((path / "summary.json").read_text())
        found = {"mass_off_support": 0.02 + k / 1e3, "mass_misplaced": 0.06 + k / 999, "coverage": 0.95 + k / 1e4}
        found |= {"bi_lipschitz": 12345.6 * (1 + k), "round_trip_samples_float32": 1.5e-6 * (1 + k)}
        if cif:
            found |= {"gap": 0.01 + k / 1e4, "ess": 97.5 + k / 10, "pareto_k": -0.05 - k / 100, "bracket_gap": -k / 1e5}
        elif family == "resflow":
            found["lipschitz_ceiling"] = 1e10
        costs = {"parameters": 10_469_134, "steps": 200_000, "wall_seconds": 54321.0}
        (path / "summary.json").write_text(json.dumps({**summary, **costs, "test": {**summary["test"], **found}}))
    return directory
