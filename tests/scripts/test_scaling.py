"""The model of scaling: what it counts, and what its formula says where the answer is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from scaling import Cost, Machine, cost, predictions_table


def test_what_is_counted():
    """The random numbers of a CIF are its u's, one for each of 5 indexed steps; a matrix product of MAF's masks is
    2 · in · out operations forward and about twice that backward."""
    plain, indexed = cost("maf", False), cost("maf", True)
    assert plain.numbers == 0 and indexed.numbers == 5
    assert indexed.operations > plain.operations > 100
    assert 4e5 < plain.flops < 3e6


def test_the_formula():
    machine = Machine(operation=1e-6, flops=1e9, near=1e9, far=1e8, latency=1e-5, numbers=1e9)
    slow_to_launch = Cost(operations=10_000, flops=1.0, parameters=0, numbers=0)
    assert slow_to_launch.seconds(1, 100, machine) == pytest.approx(0.01)
    work = Cost(operations=1, flops=1e6, parameters=250_000, numbers=10)
    alone = work.seconds(1, 100, machine)
    assert alone == pytest.approx(0.1 + 100 * 10 / 1e9)
    ring = 2 * 3 / 4 * 1e6 / 1e9 + 2 * 1e-5
    assert work.seconds(4, 100, machine) == pytest.approx(0.1 + ring + 4 * 100 * 10 / 1e9)
    assert work.seconds(16, 100, machine) > 0.1 + 2 * 15 / 16 * 1e6 / 1e8
    assert "1,024 GPUs" in predictions_table({"maf, plain": work})


@pytest.mark.slow
def test_the_whole_script(tmp_path):
    script = Path(__file__).parents[2] / "scripts" / "scaling.py"
    words = ["--flows", "maf", "--processes", "1,2", "--batches", "50", "--repeats", "1", "--output", str(tmp_path)]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=True)
    assert "2 proc., ms" in done.stdout and (tmp_path / "scaling.png").stat().st_size > 10_000
