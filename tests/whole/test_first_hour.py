"""What somebody new sees and does in the first hour, as they would type it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cifrun.cli.main import main
from tests.helpers import without_pictures

#: A run of some steps, with everything on.
WORDS = (
    "dataset=two_uniforms dataset.num_train=200 dataset.num_valid=50 dataset.num_test=100 flow=affine flow.depth=2 "
    "trainer.max_steps=4 trainer.batch_size=50 trainer.plot_every=0 eval.importance_samples=2 diagnostics.samples=20 "
    "diagnostics.density_points=20 diagnostics.jacobian_points=4 diagnostics.weight_points=4 diagnostics.weights=10 "
    "device=cpu"
)
SMALL = WORDS.split()


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What has been written to both streams since the last time."""
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_a_run_says_where_it_is_how_to_watch_it_and_what_it_is_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with without_pictures():
        assert main(["train", *SMALL, "trainer.valid_every=3", f"hydra.run.dir={run}"]) == 0
    result, progress = capsys.readouterr()
    assert f"run directory: {run}" in result.splitlines()
    lines = progress.splitlines()
    assert lines[0].startswith("two_uniforms: CIF of affine, ") and lines[0].endswith("parameters, on cpu")
    assert lines[1] == f"watch it with: tensorboard --logdir {run}"
    after = [
        line for line in lines if line in ("validating the last weights", "drawing") or line.startswith("testing on")
    ]
    assert after == ["validating the last weights", "testing on 100 data, and diagnosing", "drawing"]


def test_a_sweep_given_again_with_fewer_steps_says_that_runs_can_only_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "-m", *SMALL, "trainer.progress=false", "diagnostics.enabled=false", "seed=1,2", "sweep.name=s"]
    with without_pictures():
        assert main(words) == 0
        assert said(capsys).splitlines()[-1] == "cifrun: 2 complete: cifrun report multirun/s"
        assert main([*words, "trainer.max_steps=2"]) == 0
    text = said(capsys)
    assert text.count("keeps its 4 steps, as a run can only grow") == 2
    assert text.splitlines()[-1] == "cifrun: 2 complete: cifrun report multirun/s"


def test_a_sweep_counts_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "-m", *SMALL, "trainer.progress=false", "diagnostics.enabled=false", "index.depth=1,99"]
    with without_pictures():
        assert main(words) != 0
    assert said(capsys).splitlines()[-1].startswith("cifrun: 1 complete, 1 failed: cifrun report ")


@pytest.mark.parametrize("verb", [["train", *SMALL], ["list"], ["show", *SMALL], ["report", "."], ["--help"]])
def test_a_working_directory_that_is_gone_is_a_sentence(verb: list[str], tmp_path: Path) -> None:
    code = "import os, sys; os.rmdir(os.getcwd()); from cifrun.cli.main import main; sys.exit(main(sys.argv[1:]))"
    (tmp_path / "here").mkdir()
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", code, *verb],
        cwd=tmp_path / "here",
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip() == "cifrun: the working directory is gone: change to one that is there"


def test_more_devices_than_there_are_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *SMALL, "device.count=10000"]) == 2
    assert "device.count = 10000 is not possible here" in said(capsys)


def test_a_file_in_another_encoding_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.csv").write_bytes("größe,b\n1,2\n3,4\n".encode("latin-1"))
    assert main(["train", "dataset=file", f"dataset.path={tmp_path / 'table.csv'}"]) == 2
    assert "is not UTF-8 text: save it in that encoding" in said(capsys)


def test_two_processes_bring_no_warning_of_a_library(tmp_path: Path) -> None:
    words = [*SMALL, "trainer.progress=false", "diagnostics.enabled=false", "device.count=2", "hydra.run.dir=run"]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "cifrun", "train", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["a=b ö", "a$b c"])
def test_a_directory_is_taken_as_it_is_typed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with without_pictures():
        assert (
            main(["train", *SMALL, "trainer.progress=false", "diagnostics.enabled=false", f"hydra.run.dir={name}"]) == 0
        )
    assert [path.name for path in tmp_path.iterdir()] == [name]
