"""scripts/bench.py measures what it says, on the smallest case there is."""

import json
import subprocess
import sys

import pytest

from tests.helpers import ROOT, script

SCRIPT = ROOT / "scripts" / "bench.py"
GRADIENTS = ("constant memory", "autograd through the series", "no log-determinant")
OTHER = """
def build(request):
    if request["task"] == "sample":
        return None
    x = request["x"]
    return lambda: sum((x * k).sum() for k in range(200))
"""


def bench(tmp_path, *arguments):
    (tmp_path / "other.py").write_text(OTHER)
    command = [sys.executable, SCRIPT, "--output", tmp_path / "out", "--repeats", "2", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_table_and_a_file(tmp_path, monkeypatch, capsys):
    bench = script("bench")
    monkeypatch.setattr(bench, "gemm_rate", lambda device, size, rate=bench.gemm_rate: rate(device, size // 8))
    (tmp_path / "other_build.py").write_text(OTHER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = "--flows realnvp,vae --data 50 --samples 60 --repeats 2 --output out --against other_build:build"
    monkeypatch.setattr(sys, "argv", ["bench.py", *words.split()])
    bench.main()
    out = capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "bench.json").read_text())
    rate = written["machine"]["gflops"]
    assert rate > 0
    cases = [(r["task"], r["flow"], r["cif"]) for r in written["results"]]
    assert cases == [
        (task, flow, cif)
        for task in ("train", "eval", "sample")
        for flow, cif in (("realnvp", False), ("realnvp", True), ("vae", True))
    ]
    for r in written["results"]:
        assert r["seconds"] > 0 and r["gflop"] > 0 and r["peak_bytes"] > 0 and r["spread"] >= 0
        assert r["floor_seconds"] == pytest.approx(r["gflop"] / rate)
        assert ("ratio" in r) == (r["task"] != "sample")
        if "ratio" in r:
            assert r["ratio"] == pytest.approx(r["against_seconds"] / r["seconds"])
    evaluation = next(r for r in written["results"] if r["task"] == "eval" and r["cif"])
    assert evaluation["rate"] == pytest.approx(50 * 20 / evaluation["seconds"])
    assert out.count("realnvp") == 6


@pytest.mark.slow
def test_curves(tmp_path):
    bench(tmp_path, "--curves", "--flows", "realnvp")
    lines = json.loads((tmp_path / "out" / "curves.json").read_text())["curves"]
    assert [line["curve"] for line in lines] == ["depth", "dimension", "batch", "m"]
    assert (tmp_path / "out" / "curves.png").stat().st_size > 10_000


@pytest.mark.slow
def test_blocks(tmp_path):
    still = "optimizer.lr=1e-12"  # so that a step leaves the weights, and each draw's loss, as they are
    out = bench(tmp_path, "--blocks", "1,3", "flow.hidden=[16,16]", "trainer.batch_size=4", still)
    results = json.loads((tmp_path / "out" / "blocks.json").read_text())["results"]
    found = {(r["blocks"], r["gradient"]): r for r in results}
    assert len(found) == 6 and all(r["seconds"] > 0 for r in results)
    for blocks in (1, 3):
        constant, graph, none = (found[blocks, gradient] for gradient in GRADIENTS)
        assert constant["losses"] == pytest.approx(graph["losses"], rel=1e-5)  # the same estimate from the same draws
        assert constant["losses"] != pytest.approx(none["losses"], rel=1e-5)
    growth = [found[3, g]["peak_bytes"] - found[1, g]["peak_bytes"] for g in GRADIENTS]
    images = 4 * 28 * 28 * 4  # bytes of a batch
    assert growth[0] < 2 * 8 * images  # x, v, w and what normalisation keeps; nothing of the 16 channels
    assert growth[0] < growth[2] < growth[1]
    assert (tmp_path / "out" / "blocks.png").stat().st_size > 10_000
    assert "autograd through the series" in out
