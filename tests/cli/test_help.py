"""Help, the catalogue and the version: complete, narrow, and free of heavy imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cifrun.cli.config_groups import groups
from cifrun.cli.help import VERBS
from cifrun.cli.main import main
from cifrun.cli.overlay import IDLE
from cifrun.config.roles import changeable, command_defaults
from tests.cli.helpers import ROOT


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_help_shows_verbs_groups_and_examples(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    text, err = capsys.readouterr()
    assert err == ""
    for word in [*VERBS, *groups(), "two_moons", "resflow", "two_d_maf", "cifrun train dataset=two_moons"]:
        assert word in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"cifrun {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["train", "eval", "sample"])
def test_help_names_what_a_verb_may_change_in_a_run(verb: str) -> None:
    names = [name for name in changeable(verb) if name not in (*command_defaults(), *IDLE.get(verb, ()))]
    assert f"{', '.join(names[:-1])} and {names[-1]} may change" in VERBS[verb].details


def test_help_imports_neither_torch_nor_hydra() -> None:
    code = (
        "import sys, cifrun.cli.main as c; c.main(['--help']); c.main(['train', '-h']); "
        "sys.exit(bool({'torch', 'hydra', 'omegaconf', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def test_list_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    described = {line[0] for line in lines if len(line) == 2}
    assert {*groups()["dataset"], *groups()["flow"]} <= described


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("cifrun ")
