"""The frontier: peers that are built in, what is trained and what is not again, and what the page says."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cifrun.cli.hydra_app import configure
from cifrun.errors import CifrunError
from cifrun.runs.directory import RunDirectory
from cifrun.runs.records import METRICS
from tests.helpers import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import frontier
import frontier_page
import frontier_peers
from frontier_made import commands

#: Data so small that nothing takes long.
SMALL = ["dataset.num_train=300", "dataset.num_valid=100", "dataset.num_test=100"]
FAKE = """
import numpy as np

def gaussian(train, valid, seconds, seed):
    assert train.shape == (300, 2) and valid.shape == (100, 2) and train.dtype == np.float64
    mean, std = train.mean(0), train.std(0)
    log_p = lambda x: (-((x - mean) / std) ** 2 / 2 - np.log(std) - np.log(2 * np.pi) / 2).sum(1)
    return log_p, seconds / 2

def broken(train, valid, seconds, seed):
    print("a line of its own")
    raise RuntimeError("no such\\nthing")
"""


def call(monkeypatch, tmp_path, words):
    """`scripts/frontier.py` in this process; its exit code."""
    places = ["--output", str(tmp_path / "out"), "--docs", str(tmp_path / "docs")]
    monkeypatch.setattr(sys, "argv", ["frontier.py", *shlex.split(words), *places, "--overrides", *SMALL])
    monkeypatch.chdir(tmp_path)
    return frontier.main()


def written(tmp_path):
    return [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]


def record(model, kl, *, target="rings", budget=60.0, seed=1, kind="plain", **more):
    """A line of results, by default of a training that took its seconds."""
    found = {"kl": kl, "log_likelihood": -3.0 - kl, "seconds": budget, "steps": 100} if kl is not None else {}
    names = {"target": target, "model": model, "kind": kind, "budget": budget, "seed": seed}
    made = {"threads": 2, "overrides": [], "cpu": "a CPU", "versions": {"torch": "2.8"}}
    return names | found | made | more


@pytest.mark.parametrize("name", frontier_peers.PEERS)
def test_a_peer_learns_a_density(name):
    rng = np.random.default_rng(0)
    train, valid, test = (5 + np.array([2.0, 0.1]) * rng.normal(size=(n, 2)) for n in (2000, 300, 500))
    density, seconds = frontier_peers.PEERS[name](train, valid, 1.0, 1)
    truth = -math.log(2 * math.pi * 0.2) - 1
    assert truth - 0.25 < density(test).mean() < truth + 0.15
    assert 0 < seconds < 60


def test_peers_by_name_run_once_and_failures_are_lines(tmp_path, monkeypatch, capsys):
    (tmp_path / "fake_peer.py").write_text(FAKE)
    words = "--targets two_uniforms --flows --peers --peer fake_peer:gaussian --peer fake_peer:broken --seconds 1"
    assert call(monkeypatch, tmp_path, f"{words} --seeds 1") == 1
    assert "trainings that failed: 1" in capsys.readouterr().err
    good, bad = written(tmp_path)
    assert good["seconds"] == 0.5 and good["threads"] == 2 and set(good["versions"]) > {"torch", "zuko"}
    assert good["kl"] == pytest.approx(-math.log(4) - good["log_likelihood"])  # two squares of area 2 in all
    assert bad["error"] == "RuntimeError: no such thing"
    page = (tmp_path / "docs" / "frontier.md").read_text()
    assert "- two_uniforms, fake_peer:broken, 1 s, seed 1: RuntimeError: no such thing" in page
    assert "| fake_peer:broken | failed | failed | – |\n" in page
    assert (tmp_path / "docs/figures/frontier.png").stat().st_size > 10_000

    def counted(bench, job):
        asked.append(str(job))
        return {"kl": 0.5, "log_likelihood": -2.0, "seconds": 1.0}

    # A line that is there is not done again; one that was cut off is.
    asked: list[str] = []
    monkeypatch.setattr(frontier.Bench, "peer", counted)
    file = tmp_path / "out" / "results.jsonl"
    file.write_text(file.read_text()[:-20])
    capsys.readouterr()
    file.write_text(file.read_text() + '\n3\n{"a": 1}\n')
    assert call(monkeypatch, tmp_path, f"{words} --seeds 1 2") == 0
    assert asked == [f"two_uniforms, fake_peer:{what}, 1 s, seed {k}" for what, k in (("broken", 1), *SECOND)]
    assert capsys.readouterr().out.startswith("1 of 4 trainings are done")
    assert len(frontier.Results(file).records) == 4 and file.read_text().count("\n") == 7
    assert call(monkeypatch, tmp_path, f"{words} --seeds 1 2") == 0 and len(asked) == 3
    assert call(monkeypatch, tmp_path, f"{words} --seeds 1 2 --threads 1") == 2
    assert "holds results of --threads 2 dataset.num_train=300" in capsys.readouterr().err


SECOND = (("gaussian", 2), ("broken", 2))


def test_a_flow_is_trained_for_its_seconds(tmp_path, monkeypatch):
    """The first training after a short one that says the seconds a step; then the last trainings say them."""
    configs = []

    def run(bench, command, folder, budget):
        assert command[1:4] == ["-m", "cifrun", "train"] and command[-1] == f"hydra.run.dir='{folder}'"
        configs.append(configure(command[4:-1]))
        steps = configs[-1].trainer.max_steps
        done = RunDirectory(folder)
        done.create(configs[-1])
        rows = [{"step": k, "train/step_seconds": t} for k, t in ((10, 9.0), (30, 0.25))]  # the first steps are slow
        (folder / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
        test = {"kl_to_truth": 0.5, "log_likelihood": -2.0}
        done.write_summary({"status": "completed", "steps": steps, "wall_seconds": 0.2 * steps, "test": test})

    monkeypatch.setattr(frontier.Bench, "run", run)
    words = "--targets two_uniforms --flows affine --peers --seconds 10 30 --seeds 3"
    assert call(monkeypatch, tmp_path, words) == 0
    lines = written(tmp_path)
    assert [(r["model"], r["kind"], r["budget"], r["seconds"], r["steps"]) for r in lines] == [
        (model, kind, budget, pytest.approx(0.2 * steps), steps)
        for budget, steps in ((10, 50), (30, 150))  # 40 and then 50: 8 s are too far from 10
        for model, kind in (("affine", "plain"), ("CIF of affine", "CIF"))
    ]
    assert [c.trainer.max_steps for c in configs] == [30, 40, 50, 30, 40, 50, 150, 150]
    assert [c.cif for c in configs] == [False] * 3 + [True] * 3 + [False, True]
    for config in configs:
        assert (config.dataset.name, config.dataset.seed, config.seed) == ("two_uniforms", 3, 3)
        assert config.flow.family == "affine" and config.dataset.num_train == 300
        assert config.optimizer == configure([]).optimizer


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--flows nope --peers", "no flow 'nope'"),
        ("--flows --settings flow=maf,flow.hidden=many --peers", "flow.hidden"),
        ("--flows --peers --peer no_such_module:f", "no_such_module:f can't be imported: No module named"),
        ("--flows --peers --peer math:nothing", "the module math has no function nothing"),
    ],
)
def test_mistakes_are_found_before_the_first_training(tmp_path, monkeypatch, capsys, words, sentence):
    assert call(monkeypatch, tmp_path, f"--targets rings {words} --seeds 1") == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.jsonl").exists()


def test_a_place_that_is_no_folder_gives_a_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "out").touch()
    assert call(monkeypatch, tmp_path, "--table-only") == 2
    assert capsys.readouterr().err.startswith("frontier: ")


def test_seconds_are_numbers(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, tmp_path, "--seconds nan")


def test_settings_may_hold_lists():
    (plain, _) = frontier.models([], ["flow=maf,flow.hidden=[32,32],cif=true"], [])
    assert plain.words == ("flow=maf", "flow.hidden=[32,32]", "cif=true")


def test_the_page_says_how_to_repeat_it():
    records = [record("maf", 0.1, target=target, seed=seed) for target in ("rings", "circles") for seed in (1, 2)]
    records += [record("CIF of maf", 0.1, target="rings", kind="CIF"), record("zuko-NSF", 0.1, kind="peer")]
    records.append(record("flow=maf,flow.hidden=[8]", 0.1, target="annulus"))
    calls = [shlex.split(call.replace("\\\n", "")) for call in commands(records).split("\npython")]
    assert [" ".join(call[call.index("scripts/frontier.py") + 1 :]) for call in calls] == [
        "--targets circles rings --flows maf --peers --seconds 60 --seeds 1 2 --threads 2",
        "--targets rings --flows maf --peers zuko-NSF --seconds 60 --seeds 1 --threads 2",
        "--targets annulus --flows --settings flow=maf,flow.hidden=[8] --peers --seconds 60 --seeds 1 --threads 2",
    ]


@pytest.mark.slow
def test_the_whole_script(tmp_path):
    words = "--targets two_uniforms --flows affine --peers KernelDensity --seconds 1 --seeds 1 --output out --docs docs"
    command = [sys.executable, ROOT / "scripts" / "frontier.py", *words.split(), "--overrides", *SMALL]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert [r["model"] for r in written(tmp_path)] == ["affine", "CIF of affine", "KernelDensity"]
    assert all("error" not in r for r in written(tmp_path))


def test_a_training_far_from_its_seconds_is_repeated_once(tmp_path, monkeypatch):
    asked = []

    def train(bench, job, *more, folder):
        asked.append(int(more[0].partition("=")[2]))
        took = {"wall_seconds": 0.3 * asked[-1], "steps": asked[-1]}
        return took | {"test": {"kl_to_truth": 0.1, "log_likelihood": -2.0}}

    monkeypatch.setattr(frontier.Bench, "train", train)
    job = frontier.Job(frontier.Model("maf", ("flow=maf",)), "rings", 30, 1)
    bench = frontier.Bench(tmp_path, 2, [])
    assert bench.flow(job, 0.1)["seconds"] == pytest.approx(30) and asked == [300, 100]
    assert bench.flow(job, 0.31)["steps"] == 97 and asked == [300, 100, 97]


def test_the_models_take_turns():
    options = {
        "flows": ["maf"],
        "settings": [],
        "peers": ["zuko-NSF"],
        "peer": ["a:b"],
        "seeds": [1, 2],
        "targets": ["rings"],
    }
    jobs = frontier.plan(frontier.argparse.Namespace(**options, seconds=[30, 10]))
    assert [job.model.name for job in jobs[:4]] == ["maf", "CIF of maf", "zuko-NSF", "a:b"]
    assert [(job.seed, job.budget) for job in jobs[::4]] == [(1, 10), (1, 30), (2, 10), (2, 30)]
    assert str(jobs[0]) == "rings, maf, 10 s, seed 1" and jobs[3].folder() == "rings/a-b/10s-seed1"
    plain, indexed = frontier.models([], ["experiment=plane,base=mixture"], [])
    assert plain.words == indexed.words == ("experiment=plane", "base=mixture") and indexed.cif and not plain.cif
    assert indexed.name == "CIF of experiment=plane,base=mixture" and (plain.kind, indexed.kind) == ("plain", "CIF")


def test_what_a_process_says_last_is_why_it_failed(tmp_path):
    bench = frontier.Bench(tmp_path, 2, [])
    code = "import os, sys; sys.exit(f'at\\nthe {os.environ[\"OMP_NUM_THREADS\"]}')"
    with pytest.raises(CifrunError, match=r"^the 2$"):
        bench.run([sys.executable, "-c", code], tmp_path / "runs" / "x", 1)
    with pytest.raises(CifrunError, match=r"^exit code 3$"):
        bench.run([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "runs" / "x", 1)
    with pytest.raises(CifrunError, match=r"^ended by signal 9$"):
        bench.run(["sh", "-c", "echo a word; kill -9 $$"], tmp_path / "runs" / "x", 1)
    with pytest.raises(CifrunError, match=r"^no end after 0 s$"):
        bench.run(["sh", "-c", "sleep 60"], tmp_path / "runs" / "x", -90)  # 20 times that and half an hour


def test_seconds_to_a_level():
    curve = [(10.0, 0.3, 0.0), (30.0, 0.1, 0.0), (60.0, 0.06, 0.0), (120.0, 0.04, 0.0)]
    assert frontier_page.seconds_to(0.4, curve) == "≤ 10"
    assert frontier_page.seconds_to(0.2, curve) == "17"  # half-way in the logarithm
    assert frontier_page.seconds_to(0.1, curve) == "30"
    assert frontier_page.seconds_to(0.05, curve) == "85"
    assert frontier_page.seconds_to(0.02, curve) == frontier_page.seconds_to(0.1, []) == "–"
    assert frontier_page.seconds_to(0.1, [(1.0, math.nan, 0.0)]) == "–"
    assert frontier_page.seconds_to(0.5, [(1.25, 0.5, 0.0)]) == "≤ 1.2"


def test_a_search_that_ends_early_stays_as_it_is():
    found = [record("KernelDensity", 0.2, kind="peer", budget=b, seconds=s) for b, s in ((10.0, 4.0), (60.0, 4.5))]
    row = frontier_page.Row("KernelDensity", found, [10.0, 60.0])
    assert row.curve() == [(4.0, 0.2, 0.0), (10.0, 0.2, 0.0), (60.0, 0.2, 0.0)]
    found = [record("maf", kl, budget=b, seconds=s) for b, s, kl in ((10.0, 3.0, 0.2), (60.0, 66.0, 0.1))]
    assert frontier_page.Row("maf", found, [10.0, 60.0]).curve() == [(3.0, 0.2, 0.0), (66.0, 0.1, 0.0)]


def test_tables_and_who_is_ahead(tmp_path):
    records = []
    for seed, noise in enumerate((-0.001, 0.0, 0.001), 1):
        for budget, factor in ((10.0, 2), (60.0, 1), (120.0, 0.495)):
            at = {"seed": seed, "budget": budget}
            records += [
                record("maf", 0.2 * factor + noise, **at),
                record("CIF of maf", 0.0499 * factor + 1.001 * noise, kind="CIF", **at),
                record("zuko-NSF", 0.0502 * factor - noise, kind="peer", **at),
            ]
            if seed < 3:
                records.append(record("GaussianMixture", 0.4, kind="peer", **at))
    records.append(record("GaussianMixture", None, seed=3, kind="peer", error="no memory"))
    table = frontier_page.Table("rings", records)
    assert table.lines() == [
        "| model | KL, 10 s | KL, 60 s | KL, 120 s | log-likelihood, 60 s | seconds | s to 0.1 | s to 0.05 "
        "| s to 0.02 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        "| CIF of maf | 0.09980 ± 0.00058 | **0.04990 ± 0.00058** | 0.02470 ± 0.00058 "
        "| −3.04990 ± 0.00058 | 60 | ≤ 10 | 60 | – |",
        "| zuko-NSF | 0.10040 ± 0.00058 | 0.05020 ± 0.00058 ≈ | 0.02485 ± 0.00058 "
        "| −3.05020 ± 0.00058 | 60 | 10 | 60 | – |",
        "| maf | 0.40000 ± 0.00058 | 0.20000 ± 0.00058 | 0.09900 ± 0.00058 | −3.20000 ± 0.00058 | 60 | 119 | – | – |",
        "| GaussianMixture | 0.400 ± 0 | 0.400 ± 0 (2 of 3 seeds) | 0.400 ± 0 "
        "| −3.400 ± 0 (2 of 3 seeds) | 60 | – | – | – |",
    ]
    assert table.verdict() == "After 60 s CIF of maf has the lowest KL, not told apart from that of zuko-NSF (≈)."
    assert frontier_page.overview([table]).splitlines()[2:] == [
        "| rings | CIF of maf, 0.04990 ± 0.00058 | maf, 0.20000 ± 0.00058 | zuko-NSF, 0.05020 ± 0.00058 | 0.99 "
        "| neither | CIF |",
        "",
        "- Ahead, of best CIF and best peer, of 1 targets: neither on 1.",
        "- Ahead, of best CIF and best plain flow, of 1 targets: CIF on 1.",
    ]
    page = frontier_page.write(records, tmp_path, note="Two at a time.").read_text()
    assert "of the seconds that they were given.\n- Two at a time.\n" in page
    assert (tmp_path / "figures" / "frontier_rings.png").exists() and not (
        tmp_path / "figures" / "frontier.png"
    ).exists()
    assert "## Failed\n\n- rings, GaussianMixture, 60 s, seed 3: no memory\n" in page
    assert "- 2 threads; a CPU; torch 2.8\n- cifrun's trainings took 1.00 to 1.00 of the seconds" in page


def test_of_one_number_of_seconds_there_is_one_picture(tmp_path):
    records = [record(name, 0.1 * k) for k, name in enumerate(("maf", "CIF of maf", "zuko-NSF"), -1)]
    page = frontier_page.write(records, tmp_path).read_text()
    assert page.count("![") == 1 and "(figures/frontier.png)" in page
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["frontier.png"]


def test_the_same_densities_do_not_differ_by_their_rounding():
    records = [
        record(name, 0.007 + 1e-4 * seed + rounding, seed=seed, kind=kind)
        for seed in (1, 2, 3)
        for name, kind, rounding in (("plane", "plain", 0.0), ("CIF of plane", "CIF", (80 + seed) * 1e-9))
    ]
    table = frontier_page.Table("circles", records)
    assert frontier_page.overview([table]).splitlines()[-1].endswith("neither on 1.")
    assert "≈" in "".join(table.lines()) and "s to" not in "".join(table.lines())


def test_one_seed_decides_nothing(tmp_path):
    records = [record("maf", 0.2), record("CIF of maf", -0.001, kind="CIF"), record("sos", None, error="no")]
    table = frontier_page.Table("rings", records)
    assert table.verdict() == "It takes two seeds or more to say who is ahead." and "≈" not in "".join(table.lines())
    assert frontier_page.overview([table]).endswith("| rings | CIF of maf, −0.001 | maf, 0.200 | – | – | – | – |")
    frontier_page.picture(table, tmp_path / "a.png")  # a KL that is not above 0 has a place
    assert frontier_page.Table("rings", [record("sos", None, error="no")]).verdict() == "No training came to its end."
    with pytest.raises(CifrunError, match="no results"):
        frontier_page.write([], Path(tmp_path))
