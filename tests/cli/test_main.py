"""The front door as a process, and tracebacks for whoever asks for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cifrun.cli.main import main
from tests.cli.helpers import ROOT, tree


def test_as_a_module_from_another_directory(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "cifrun", "show", "flow.dept=3"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("cifrun: there is no key 'flow.dept'")
    assert tree(tmp_path) == []


@pytest.mark.parametrize("word", ["flow.dept=3", "flow.depth=0"])
def test_full_error_shows_the_traceback(
    word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert main(["show", word]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err and word.partition("=")[0] in err


def test_show_prints_a_table_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "flow=maf", "flow.depth=2"]) == 0
    out, err = capsys.readouterr()
    assert "maf" in out and err == ""
