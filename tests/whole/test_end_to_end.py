"""Commands as a user types them, run for real, from another directory."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from cifrun.cli.main import main
from cifrun.io.text import with_error
from tests.helpers import without_pictures

TINY = ["debug=tiny", "flow=maf", "flow.depth=2", "flow.hidden=[8]"]


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.chdir(home)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory in which one tiny CIF was trained to outputs/DATE/TIME, by a process of its own."""
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "cifrun", "train", "dataset=two_uniforms", "cif=true", *TINY]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0 and "run directory:" in done.stdout, done.stdout + done.stderr
    return home


@pytest.fixture
def run(home):
    (config,) = home.glob("outputs/*/*/config.yaml")
    return config.parent


@pytest.fixture
def cifrun(capsys):
    """What a command prints, in this process and without pictures; it ends with `code`."""

    def call(*words, code=0):
        with without_pictures():
            assert main(list(words)) == code
        return capsys.readouterr()

    return call


def test_train_reports_its_result(run):
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "completed" and summary["cif"] is True and summary["dataset"] == "two_uniforms"
    assert summary["test"]["log_likelihood_se"] > 0 and not summary["test"]["exact"]


def test_eval_writes_what_it_prints(home, run, cifrun):
    out, err = cifrun("eval", f"run={run.relative_to(home)}", "eval.importance_samples=7")
    assert "IWAE_7" in out and "±" in out and err == ""
    test = json.loads((run / "summary.json").read_text())["test"]
    assert test["importance_samples"] == 7
    assert with_error(test["log_likelihood"], test["log_likelihood_se"]) in out
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["test/log_likelihood"] == test["log_likelihood"]


def test_a_plain_flow_says_that_it_is_exact(home, cifrun):
    out, _ = cifrun("train", "dataset=two_uniforms", "cif=false", *TINY, "hydra.run.dir=plain")
    assert "(exact)" in out
    assert json.loads((home / "plain/summary.json").read_text())["test"]["exact"] is True


def test_sample_writes_what_was_asked_for(home, run, cifrun):
    for name in ("a.npy", "b.npy", "c.csv", "d.png"):
        cifrun("sample", f"run={run}", "n=50", f"output={name}", "seed=3")
    a, b = np.load(home / "a.npy"), np.load(home / "b.npy")
    assert a.shape == (50, 2) and np.array_equal(a, b)
    assert np.allclose(np.loadtxt(home / "c.csv", delimiter=",", skiprows=1), a)
    assert (home / "c.csv").read_text().startswith("x1,x2\n")
    assert (home / "d.png").read_bytes().startswith(b"\x89PNG")
    _, err = cifrun("sample", f"run={run}", "n=5", "output=x.txt", code=2)
    assert err.count("\n") == 1 and ".npy, .png, .csv" in err


def test_multirun_keeps_jobs_apart(home, cifrun):
    cifrun("train", "-m", "dataset=two_uniforms", "cif=true,false", "seed=1,2", *TINY, "hydra.sweep.dir=sweep")
    names = sorted(path.parent.name for path in (home / "sweep").glob("*/summary.json"))
    assert len(names) == 4 and all("cif=" in name and "seed=" in name for name in names)


def test_a_finished_run_is_extended(home, cifrun):
    cifrun("train", "dataset=two_uniforms", *TINY, "hydra.run.dir=more")
    before = json.loads((home / "more/summary.json").read_text())["steps"]
    cifrun("train", "resume=more", f"trainer.max_steps={before + 4}")
    assert json.loads((home / "more/summary.json").read_text())["steps"] == before + 4
    _, err = cifrun("train", "resume=more", "flow=realnvp", code=2)
    assert "flow" in err and err.count("\n") == 1


def test_nobody_reads_on():
    """`cifrun show … | head -1` prints a line and no complaint."""
    command = f"{sys.executable} -m cifrun show flow=maf flow.depth=200 | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.count("\n") == 1 and done.stderr == ""
