"""The comparison of all flows: what the tables say of runs that are there, and which runs are started."""

from __future__ import annotations

import json

import pytest

from cifrun.cli.hydra_app import configure
from cifrun.errors import CifrunError
from cifrun.runs.directory import RunDirectory
from cifrun.runs.records import METRICS
from tests.helpers import script, small_config

compare_flows = script("compare_flows")


def fabricate(path, value=None, status="completed", steps=40, parameters=1234, ms=(1, 2, 9)):
    """A run directory as training leaves it, with a test log-likelihood of `value`."""
    run, cif = RunDirectory(path), path.parent.name == "cif"
    run.create(small_config("realnvp", cif, trainer={"max_steps": 40}))
    run.checkpoint_path("latest").touch()
    summary = {"status": status, "steps": steps, "parameters": parameters, "versions": {"torch": "2.6"}}
    test = {"log_likelihood": value} if status == "completed" else {}
    run.write_summary({**summary, **({"test": test} if test else {})})
    rows = [{"step": k, "train/step_seconds": t / 1000} for k, t in enumerate(ms)] + [{"step": 9, "valid/elbo": 0.0}]
    (path / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))


def fabricate_all(directory, values, **options):
    for seed, value in enumerate(values, 1):
        fabricate(directory / f"seed{seed}", value, **options)


def documents(output, docs):
    """The lines of flows.md, and what flows.json holds."""
    compare_flows.write(output, docs)
    return (docs / "flows.md").read_text().splitlines(), json.loads((docs / "flows.json").read_text())


def test_means_differences_and_winners(tmp_path):
    output = tmp_path / "runs"
    realnvp, maf = output / "two_uniforms" / "realnvp", output / "two_uniforms" / "maf"
    fabricate_all(realnvp / "plain", [-3.0, -3.1, -3.2], parameters=152)
    fabricate_all(realnvp / "cif", [-2.0, -2.2, -2.4], parameters=650)
    fabricate_all(realnvp / "larger", [-1.5, -1.7, -1.8], parameters=1760, ms=(4, 5, 6))
    fabricate_all(maf / "plain", [-2.0, -2.2, -2.1])
    fabricate_all(maf / "cif", [-1.9, -2.3, -2.1])
    lines, data = documents(output, tmp_path / "docs")
    # Means −3.1, −2.2, −1.667; errors 0.1 / √3, 0.2 / √3, 0.153 / √3; differences 1, 0.9, 0.8 and −0.5, −0.5, −0.6.
    expected = [
        "| realnvp | 152 / 650 | 40 | 2 / 2 | −3.100 ± 0.058 | **−2.20 ± 0.12** | 0.900 ± 0.058 | CIF |",
        "| realnvp, larger plain | 1 760 / 650 | 40 | 5 / 2 "
        "| **−1.667 ± 0.088** | −2.20 ± 0.12 | −0.533 ± 0.033 | larger plain |",
        "| maf | 1 234 / 1 234 | 40 | 2 / 2 | −2.100 ± 0.058 | −2.10 ± 0.12 | 0.000 ± 0.058 | neither |",
    ]
    assert [line for line in lines if line.startswith(("| realnvp", "| maf"))] == expected
    assert "## two_uniforms (truth: −1.386)" in lines and "## Not completed" not in lines
    start = lines.index(expected[-1]) + 2
    assert lines[start : start + 2] == [
        "- CIF against plain flow, 2 families: the CIF is ahead for 1 (realnvp); neither is ahead for 1 (maf).",
        "- CIF against larger plain flow, 1 family: the larger plain flow is ahead for 1 (realnvp).",
    ]
    assert data["runs"]["two_uniforms/realnvp/cif/seed2"]["log_likelihood"] == -2.2


def test_runs_that_failed_are_listed_and_seeds_are_paired(tmp_path):
    output = tmp_path / "runs"
    sos, cnf = output / "checkerboard" / "sos", output / "checkerboard" / "cnf"
    fabricate_all(sos / "plain", [-5.0, -4.0, -4.5])
    fabricate_all(sos / "cif", [-3.9, -3.0])
    fabricate(sos / "cif" / "seed3", status="failed", steps=20)
    fabricate_all(cnf / "plain", [None, -4.0])  # one is not finite
    fabricate_all(cnf / "cif", [-3.9, -3.8])
    (sos / "larger").mkdir()
    (sos / "larger" / "seed1.log").write_text("an error\n")  # it never made its directory
    lines, data = documents(output, tmp_path / "docs")
    first, larger = (line for line in lines if line.startswith("| sos"))
    assert first.endswith("| **−3.45 ± 0.45 (2 of 3 seeds)** | 1.050 ± 0.050 | CIF |")
    assert larger.endswith("| – (0 of 1 seeds) | −3.45 ± 0.45 (2 of 3 seeds) | – | – |")
    start = lines.index("## Not completed")
    assert lines[start + 2 : start + 4] == [
        "- checkerboard/sos/cif/seed3: failed at step 20",
        "- checkerboard/sos/larger/seed1: not started at step 0",
    ]
    assert next(line for line in lines if line.startswith("| cnf")).endswith("| nan | −3.850 ± 0.050 | – | – |")
    assert data["runs"]["checkerboard/cnf/plain/seed1"]["log_likelihood"] is None


def test_one_seed_decides_nothing(tmp_path):
    for side in ("plain", "cif"):
        fabricate(tmp_path / "runs" / "two_uniforms" / "affine" / side / "seed1", -2.0)
    lines, _ = documents(tmp_path / "runs", tmp_path)
    assert "| affine | 1 234 / 1 234 | 40 | 2 / 2 | −2.000 | −2.000 | 0.000 | – |" in lines
    assert "It takes two seeds or more to say who is ahead." in lines
    with pytest.raises(CifrunError, match="no completed run"):
        compare_flows.write(tmp_path / "nothing", tmp_path)


class Process:
    """Stands for a run's process, which has come to its end."""

    def __init__(self, code):
        self.returncode = code

    def poll(self):
        return self.returncode


def test_complete_runs_are_skipped_and_the_longest_come_first(tmp_path, monkeypatch, capsys):
    started = []

    def start(job):
        started.append((str(job), job.overrides()[0]))
        if job.family.name == "bnaf":
            return Process(1)
        fabricate(job.path, -2.0)
        return Process(0)

    def jobs():
        families = [family for family in compare_flows.FAMILIES if family.name in ("realnvp", "bnaf", "resflow")]
        sides = [(family, side) for family in families for side in ("plain", "cif")]
        return [
            compare_flows.Job(f, "two_uniforms", s, 1, 40, tmp_path / f"two_uniforms/{f.name}/{s}/seed1")
            for f, s in sides
        ]

    monkeypatch.setattr(compare_flows.Job, "start", start)
    monkeypatch.setattr(compare_flows.time, "sleep", lambda _: None)
    fabricate(tmp_path / "two_uniforms/resflow/plain/seed1", -2.0)
    fabricate(tmp_path / "two_uniforms/realnvp/cif/seed1", status="interrupted", steps=20)
    assert compare_flows.train(jobs(), 2) is False
    assert started == [
        ("two_uniforms/resflow/cif/seed1", "experiment=two_d_resflow"),
        ("two_uniforms/bnaf/cif/seed1", "experiment=two_d_bnaf"),
        ("two_uniforms/bnaf/plain/seed1", "experiment=two_d_bnaf"),
        ("two_uniforms/realnvp/cif/seed1", f"resume={tmp_path / 'two_uniforms/realnvp/cif/seed1'}"),
        ("two_uniforms/realnvp/plain/seed1", "experiment=two_d_realnvp"),
    ]
    printed = capsys.readouterr().out
    assert printed.startswith("1 of 6 runs are done") and "realnvp/plain/seed1: -2.000 nats" in printed
    assert f"bnaf/cif/seed1: failed, see {tmp_path / 'two_uniforms/bnaf/cif/seed1'}.log" in printed
    with pytest.raises(CifrunError, match="40 steps, not 50"):
        compare_flows.Job(jobs()[0].family, "two_uniforms", "cif", 1, 50, jobs()[1].path).done()


def test_a_run_is_what_the_document_says(tmp_path):
    family = next(family for family in compare_flows.FAMILIES if family.name == "sos")
    job = compare_flows.Job(family, "checkerboard", "larger", 3, 40, tmp_path / "checkerboard/sos/larger/seed3")
    *words, directory = job.overrides()
    config = configure(words)
    assert (config.flow.family, list(config.flow.hidden), config.cif) == ("sos", [88, 88], False)
    assert (config.dataset.name, config.dataset.seed, config.seed, config.trainer.max_steps) == (
        "checkerboard",
        3,
        3,
        40,
    )
    assert (config.dataset.num_train, config.dataset.num_test, config.trainer.batch_size) == (10_000, 5_000, 1_000)
    assert config.eval.importance_samples == 100 and directory == f"hydra.run.dir='{job.path}'"
