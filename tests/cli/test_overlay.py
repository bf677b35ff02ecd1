"""Over the config of a run that exists: what was typed, nothing else, and no key that would change nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cifrun.cli.main import main
from cifrun.cli.overlay import IDLE, overlay
from cifrun.config.fields import settings
from cifrun.config.roles import changeable
from cifrun.config.schema import Config
from cifrun.runs.directory import RunDirectory
from tests.cli.helpers import Call, write_run

TINY = ("debug=tiny", "flow=affine", "flow.depth=1", "device=cpu", "diagnostics.enabled=false")


def test_eval_changes_only_what_was_typed(calls: list[Call], run: Path) -> None:
    saved = RunDirectory(run).config()
    assert main(["eval", f"run={run}", "eval.importance_samples=7", "eval.seed=8"]) == 0
    (verb, directory, config) = calls[0]
    assert (verb, directory, config.run) == ("eval", run, run)
    assert (config.eval.importance_samples, config.eval.chunk_size, config.eval.seed) == (7, 77, 8)
    assert (config.flow, config.dataset, config.device) == (saved.flow, saved.dataset, saved.device)
    assert (config.cif, config.optimizer) == (False, saved.optimizer)


def test_a_group_is_taken_whole(calls: list[Call], run: Path) -> None:
    assert main(["eval", f"run={run}", "eval=default", "device=auto", "device.precision=fp64"]) == 0
    config = calls[0][2]
    assert config.eval.chunk_size == "auto"
    assert (config.device.accelerator, config.device.precision) == ("auto", "fp64")


def test_a_run_from_before_a_group_existed_takes_what_is_typed_of_it() -> None:
    composed = {"eval": {"seed": 3, "chunk_size": "auto"}, "run": None, "n": 1000}
    data = overlay({"flow": {"depth": 3}}, composed, ["eval.seed=3"], "eval")
    kept = {"diagnostics": {"enabled": False}}  # those of training
    assert data == {"flow": {"depth": 3}, "eval": {"seed": 3}, "run": None, "n": 1000, **kept}


@pytest.mark.parametrize("verb", IDLE)
def test_a_key_that_would_change_nothing_is_refused(
    verb: str, calls: list[Call], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {setting.name: setting for setting in settings(Config)}
    for key, why in IDLE[verb].items():
        assert key.partition(".")[0] in changeable(verb), "else it is refused anyway"
        assert main([verb, f"run={run}", f"{key}={str(known[key].default).lower()}"]) == 2
        assert f"would change nothing in cifrun {verb}: {why}" in capsys.readouterr().err
    assert calls == []
    for word in ("eval=default", "device=cpu"):  # a group is taken as it is
        assert main([verb, f"run={run}", word]) == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["eval", "run=rings", "dataset.path=x.csv"], "dataset.path is no setting of dataset 'rings'"),
        (["eval", "run=rings", "dataset.root=x"], "dataset.root is no setting of dataset 'rings'"),
        (["eval", "run=file", "dataset.path=x.csv", "data=y.csv"], "leave it out, as data=y.csv is evaluated"),
        (["eval", "run=file", "dataset.header=true"], "it goes with data=FILE"),
        (["eval", "run=digits", "dataset.delimiter=;", "data=y.npy"], "dataset.delimiter says how a table is read"),
        (["eval", "run=rings", "diagnostics.samples=50", "data=y.csv"], "diagnostics are of the test set"),
        (["eval", "run=off", "diagnostics.samples=50"], "add diagnostics.enabled=true"),
        (["eval", "run=file"], "no file /gone/x.csv, which {} was trained on: if it has moved, add dataset.path=NEW"),
        (["train", "resume=file"], "no file /gone/x.csv, which {} was trained on: if it has moved, add dataset.path="),
        (["eval", "run=rings", "flow=maf"], "takes run, data, per_point, eval, diagnostics, device\n"),
        (["data", "fetch", "power", "seed=1"], "'seed=1' would change nothing"),
    ],
)
def test_a_word_that_does_not_fit_the_run_is_refused(
    words: list[str], expected: str, calls: list[Call], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("rings", "digits", "file", "off"):
        dataset = {"name": "rings" if name == "off" else name} | ({"path": "/gone/x.csv"} if name == "file" else {})
        flow, more = {"family": "resflow"}, {"diagnostics": {"enabled": name != "off"}}
        write_run(Config.parse({"dataset": dataset, "flow": flow, **more}), tmp_path / name)
    assert main(words) == 2
    assert expected.format(tmp_path / "file") in capsys.readouterr().err
    assert calls == []


def test_a_run_whose_file_has_moved_needs_it_only_where_it_is_read(calls: list[Call], tmp_path: Path) -> None:
    config = Config.parse({"dataset": {"name": "file", "path": "/gone/x.csv"}, "flow": {"family": "maf"}})
    write_run(config, tmp_path / "run")
    (tmp_path / "here.csv").touch()
    for words in (["eval", "dataset.path=here.csv"], ["eval", "data=other.csv"], ["sample"]):
        assert main([*words, "run=run"]) == 0
    assert main(["train", "resume=run", "dataset.path=here.csv"]) == 0
    assert [call[2].dataset.path for call in calls][::3] == [tmp_path / "here.csv"] * 2


def test_images_may_have_moved_too(calls: list[Call], tmp_path: Path) -> None:
    write_run(Config.parse({"dataset": {"name": "mnist"}, "flow": {"family": "glow"}}), tmp_path / "run")
    for words in (["eval", "run=run"], ["train", "resume=run"]):
        assert main([*words, "dataset.root=there"]) == 0
    assert [call[2].dataset.root for call in calls] == [tmp_path / "there"] * 2


def test_any_table_is_evaluated_on_a_file_of_any_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    assert main(["train", *TINY, "dataset=iris", "trainer.progress=false", "hydra.run.dir=run"]) == 0
    names = [f"{part} {side} (cm)" for part in ("sepal", "petal") for side in ("length", "width")]
    draws = np.random.default_rng(0).normal(size=(20, 4)) + 3
    np.savetxt("plain.csv", draws, fmt="%.4f", delimiter=",", header=",".join(names), comments="")
    text = Path("plain.csv").read_text().replace(",", "|").replace(".", ",")
    Path("other.csv").write_text(f"{text}1|2||4\n")
    form = ("dataset.delimiter=|", "dataset.decimal=,", "dataset.missing=skip")
    told = []
    for words in (["data=plain.csv"], ["data=other.csv", *form]):
        capsys.readouterr()
        assert main(["eval", "run=run", *words]) == 0
        told.append(capsys.readouterr().out)
    assert "iris, CIF of affine" in told[1]
    assert "20 data, 1 skipped" in told[1]
    plain, other = (next(line.split() for line in text.splitlines() if "log-likelihood" in line) for text in told)
    assert plain == other
