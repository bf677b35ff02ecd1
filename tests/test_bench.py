"""scripts/bench.py measures what it says, on the smallest case there is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench.py"
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
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_table_and_a_file(tmp_path):
    out = bench(tmp_path, "--flows", "realnvp,vae", "--data", "50", "--samples", "60", "--against", "other:build")
    written = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert written["machine"]["gemm_gflops"] > 0
    cases = [(r["task"], r["flow"], r["cif"]) for r in written["results"]]
    assert cases == [
        (task, flow, cif)
        for task in ("train", "eval", "sample")
        for flow, cif in (("realnvp", False), ("realnvp", True), ("vae", True))
    ]
    for r in written["results"]:
        assert r["seconds"] > 0 and r["gflop"] > 0 and r["peak_bytes"] > 0 and r["spread"] >= 0
        assert r["floor_seconds"] == pytest.approx(r["gflop"] / written["machine"]["gemm_gflops"])
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
