"""Flows and datasets of other packages: the example package, installed, found and trained; and broken ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from cifrun.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "tests/example_package"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory into which the example package is installed, without an index and without its dependencies."""
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(EXAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


class Done(NamedTuple):
    """What became of a command."""

    code: int
    out: str
    err: str


#: Commands, one after another, in a process that finds packages in a directory: of cifrun, without pictures, or of
#: pytest.
COMMANDS = """
import contextlib, io, json, sys
import pytest
from tests.helpers import plain_main
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = int(pytest.main(words[1:])) if words[0] == "pytest" else plain_main(words)
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


def cifrun(site: Path, *commands: str, directory: Path | None = None) -> list[Done]:
    """What becomes of command lines in a process that finds packages in `site`."""
    environment = {**os.environ, "PYTHONPATH": f"{site}:{ROOT}"}
    environment.pop("HYDRA_FULL_ERROR", None)
    command = [sys.executable, "-c", COMMANDS, json.dumps([line.split() for line in commands])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=directory)
    assert done.returncode == 0, done.stderr
    return [Done(*json.loads(line)) for line in done.stdout.splitlines()]


def write_package(site: Path, module: str, source: str, entry_points: str) -> None:
    """An installed package, as an installer would leave it."""
    (site / f"{module}.py").write_text(source, encoding="utf-8")
    info = site / f"{module}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.5\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in an empty directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `done` was done."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def done(site: Path, home: Path) -> dict[str, Done]:
    """What became of all commands that know the example package, done in one process."""
    settings = "flow=rotation flow.angle=0.3 dataset=banana dataset.bend=0.4 cif=true seed=4"
    shutil.copytree(EXAMPLE / "tests", home / "tests")
    commands = {
        "train": f"train {settings} debug=tiny diagnostics.enabled=false hydra.run.dir=run",
        "sample": "sample run=run n=5 output=x.csv",
        "own": "pytest -p no:cacheprovider tests",
        "listed": "list",
        "helped": "--help",
        "flow": "show flow=rotatoin",
        "key": "show flow=rotation flow.angel=1",
        "preset": "show experiment=banana_rotation flow.depth=2",
    }
    return dict(zip(commands, cifrun(site, *commands.values(), directory=home), strict=True))


def test_what_another_package_brings_is_trained_and_read_back(
    done: dict[str, Done], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, sample, own = done["train"], done["sample"], done["own"]
    assert train.code == 0, train.err
    assert "banana, CIF of rotation" in train.out
    assert "KL to the truth" in train.out
    text = (home / "run" / "config.yaml").read_text(encoding="utf-8")
    assert "angle: 0.3" in text and "bend: 0.4" in text and text.count("seed: 4") == 2
    assert sample.code == 0, sample.err
    assert len((home / "x.csv").read_text(encoding="utf-8").splitlines()) == 6
    assert own.code == 0 and "4 passed" in own.out, own.out  # its own tests, of what is installed

    assert main(["sample", f"run={home / 'run'}"]) == 2  # in this process the package is not installed
    out, err = capsys.readouterr()
    assert out == "" and "there is no dataset 'banana': choose one of annulus" in err


def test_its_names_are_everywhere(done: dict[str, Done]) -> None:
    listed, helped, flow, key, preset = (done[name] for name in ("listed", "helped", "flow", "key", "preset"))
    assert "A Gaussian bent along a parabola." in listed.out
    assert "Rotations of the plane" in listed.out
    assert all(name in helped.out for name in ("banana,", "rotation,", "banana_rotation,"))
    assert flow.code == 2 and "did you mean 'rotation'?" in flow.err
    assert key.code == 2 and "did you mean 'flow.angle'?" in key.err
    assert preset.code == 0 and preset.out.startswith("banana (2,) ← CIF of rotation"), preset.err


@pytest.mark.parametrize(("word", "noun"), [("flow=rotation", "flow"), ("dataset=banana", "dataset")])
def test_without_the_package_its_names_are_unknown(word: str, noun: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", word]) == 2
    err = capsys.readouterr().err
    assert f"there is no {noun} '{word.partition('=')[2]}'" in err
    assert len(err.splitlines()) == 1


def test_a_broken_package_is_named_and_breaks_nothing_else(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    write_package(site, "broken", "import not_there\n", "[cifrun.flows]\nbad = broken\n")
    write_package(site, "silent", "", "[cifrun.flows]\nmute = silent\ngone = silent:Gone\n")
    thief = "from cifrun.registry import FLOWS\nFLOWS.register('maf')(type('Mine', (), {'__doc__': 'Mine.'}))\n"
    write_package(site, "thief", thief, "[cifrun.flows]\nmaf = thief\n")
    sentences = {
        "bad": ["the flow 'bad' of broken 1.5 can't be loaded", "No module named 'not_there'"],
        "mute": ["'mute' of silent 1.5", "registers no flow of this name"],
        "gone": ["'gone' of silent 1.5", "has no attribute 'Gone'"],
    }

    shown, listed, *refused = cifrun(site, "show flow=maf", "list", *(f"show flow={name}" for name in sentences))
    assert shown.code == 0, shown.err
    assert "CIF of maf" in shown.out
    for words, done in zip(sentences.values(), refused, strict=True):
        assert done.code == 2
        assert len(done.err.splitlines()) == 1
        assert all(word in done.err for word in words), done.err
    assert listed.code == 0
    assert "the flow 'bad' of broken 1.5 can't be loaded" in listed.out
    assert "the flow 'maf' of thief 1.5 can't be loaded" in listed.out
    assert "Mine." not in listed.out
