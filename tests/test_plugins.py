"""Flows and datasets of other packages: the example package, installed, found and trained; and broken ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent / "example_package"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory into which the example package is installed, without an index and without its dependencies."""
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(EXAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def cifrun(path: Path | None, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with `path` where Python looks for packages."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "HYDRA_FULL_ERROR")}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command = [sys.executable, "-m", "cifrun", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def write_package(site: Path, module: str, source: str, entry_points: str) -> None:
    """An installed package, as an installer would leave it."""
    (site / f"{module}.py").write_text(source, encoding="utf-8")
    info = site / f"{module}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.5\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")


def test_what_another_package_brings_is_trained_and_read_back(site: Path, tmp_path: Path) -> None:
    words = [
        "flow=rotation",
        "flow.angle=0.3",
        "dataset=banana",
        "dataset.bend=0.4",
        "debug=tiny",
        "cif=true",
        "seed=4",
    ]
    done = cifrun(site, "train", *words, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "banana, CIF of rotation" in done.stdout
    assert "KL to the truth" in done.stdout
    text = (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8")
    assert "angle: 0.3" in text and "bend: 0.4" in text and text.count("seed: 4") == 2

    done = cifrun(site, "sample", "run=run", "n=5", "output=x.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "x.csv").read_text(encoding="utf-8").splitlines()) == 6

    done = cifrun(None, "sample", "run=run", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no dataset 'banana': choose one of annulus" in done.stderr


def test_its_names_are_everywhere(site: Path, tmp_path: Path) -> None:
    listed = cifrun(site, "list", cwd=tmp_path).stdout
    assert "A Gaussian bent along a parabola." in listed
    assert "Rotations of the plane" in listed
    helped = cifrun(site, "--help", cwd=tmp_path).stdout
    assert all(name in helped for name in ("banana,", "rotation,", "banana_rotation,"))

    done = cifrun(site, "show", "flow=rotatoin", cwd=tmp_path)
    assert done.returncode == 2 and "did you mean 'rotation'?" in done.stderr
    done = cifrun(site, "show", "flow=rotation", "flow.angel=1", cwd=tmp_path)
    assert done.returncode == 2 and "did you mean 'flow.angle'?" in done.stderr
    done = cifrun(site, "show", "experiment=banana_rotation", "flow.depth=2", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("banana (2,) ← rotation, CIF"), done.stderr


def test_without_the_package_its_names_are_unknown(tmp_path: Path) -> None:
    for word, noun in (("flow=rotation", "flow"), ("dataset=banana", "dataset")):
        done = cifrun(None, "show", word, cwd=tmp_path)
        assert done.returncode == 2
        assert f"there is no {noun} '{word.partition('=')[2]}'" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_broken_package_is_named_and_breaks_nothing_else(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    write_package(site, "broken", "import not_there\n", "[cifrun.flows]\nbad = broken\n")
    write_package(site, "silent", "", "[cifrun.flows]\nmute = silent\ngone = silent:Gone\n")
    thief = "from cifrun.registry import FLOWS\nFLOWS.register('maf')(type('Mine', (), {'__doc__': 'Mine.'}))\n"
    write_package(site, "thief", thief, "[cifrun.flows]\nmaf = thief\n")

    done = cifrun(site, "show", "flow=maf", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "maf, CIF" in done.stdout
    for name, words in {
        "bad": ["the flow 'bad' of broken 1.5 can't be loaded", "No module named 'not_there'"],
        "mute": ["'mute' of silent 1.5", "registers no flow of this name"],
        "gone": ["'gone' of silent 1.5", "has no attribute 'Gone'"],
    }.items():
        done = cifrun(site, "show", f"flow={name}", cwd=tmp_path)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert all(word in done.stderr for word in words), done.stderr
    listed = cifrun(site, "list", cwd=tmp_path)
    assert listed.returncode == 0
    assert "the flow 'bad' of broken 1.5 can't be loaded" in listed.stdout
    assert "the flow 'maf' of thief 1.5 can't be loaded" in listed.stdout
    assert "Mine." not in listed.stdout
