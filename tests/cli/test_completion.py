"""Completion: the words that may follow, and bash's way to ask for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cifrun.cli.config_groups import groups
from cifrun.cli.help import VERBS
from cifrun.cli.main import main
from tests.cli.helpers import ROOT, tree

#: For each line, what bash offers at its end, with the function that `cifrun -sc install=bash` installs.
COMPLETE = """
eval "$(cifrun --shell-completion install=bash)"
complete -p cifrun
for line in "$@"; do
    COMP_LINE="$line"; COMP_POINT=${#line}
    COMP_WORDS=($line); [[ "$line" == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    hydra_bash_completion
    echo "${COMPREPLY[@]}"
done
"""


def test_completion_in_bash(tmp_path: Path) -> None:
    bin_dir = tmp_path / ".bin"  # the function looks for an executable
    bin_dir.mkdir()
    (bin_dir / "cifrun").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cifrun "$@"\n')
    (bin_dir / "cifrun").chmod(0o755)
    (tmp_path / "somewhere").mkdir()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{bin_dir}:{os.environ['PATH']}"}
    lines = ["cifrun train -m flow=maf dataset=two_mo", "cifrun eval run=some"]
    command = ["bash", "--norc", "-c", COMPLETE, "bash", *lines]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stderr == ""
    rule, *choices = done.stdout.splitlines()
    assert rule.endswith("hydra_bash_completion cifrun")
    assert choices == ["dataset=two_moons", "run=somewhere/"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cifrun ", " ".join(VERBS)),
        ("cifrun train device=", "device=auto device=cpu device=gpu"),
        ("cifrun train nonsense=3 flow=", " ".join(f"flow={name}" for name in groups()["flow"])),
        ("cifrun train flow.depth=[ ", ""),
        ("cifrun list ", ""),
        ("cifrun data ", "fetch"),
        ("cifrun data fetch po", "power"),
    ],
)
def test_completion_query(
    line: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr() == (f"{expected}\n" if expected else "", "")
    assert tree(tmp_path) == []
