"""What is printed where the encoding has no such signs, and where there is no stdout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SAY = """
import os, sys
from cifrun.io.terminal import settle_streams
settle_streams()
print("−1.50 ± 0.02 nats, 3 rows → x.csv, k̂ ≤ 0.7, 日")
with open(sys.argv[1], "w") as file:
    file.write("mine")
    assert file.fileno() > 2
"""


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", "-1.50 +/- 0.02 nats, 3 rows -> x.csv, k-hat <= 0.7, ?"),
        ("cp1252", "-1.50 ± 0.02 nats, 3 rows -> x.csv, k-hat <= 0.7, ?"),
        ("utf-8", "−1.50 ± 0.02 nats, 3 rows → x.csv, k̂ ≤ 0.7, 日"),
    ],
)
def test_signs_that_an_encoding_lacks_are_written_with_others(encoding: str, expected: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAY, str(tmp_path / "file")], env={"PYTHONIOENCODING": encoding}, capture_output=True
    )
    assert (done.returncode, done.stdout.decode(encoding).strip(), done.stderr) == (0, expected, b"")


@pytest.mark.parametrize("closed", ["", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_takes_what_is_printed_and_no_file_takes_its_place(closed: str, tmp_path: Path) -> None:
    line = f'"$0" -c "$1" "$2" {closed}'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable, SAY, str(tmp_path / "file")],
        env={"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_what_can_not_be_printed_loses_no_work(tmp_path: Path) -> None:
    """On a full disk, stdout first and then both: a sentence where there is room for one, and the work is done."""
    command = [sys.executable, "-m", "cifrun", "show", "flow=maf"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (
            2,
            "cifrun: the work is done, but not all there was to say could be printed: No space left on device\n",
        )
        words = ["train", "dataset=two_uniforms", "flow=realnvp", "debug=tiny", "trainer.plot_every=0"]
        words += ["diagnostics.enabled=false", "hydra.run.dir=run"]
        done = subprocess.run([*command[:3], *words], stdout=full, stderr=full, cwd=tmp_path)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "completed"
