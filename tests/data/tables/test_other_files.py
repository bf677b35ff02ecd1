"""Another file for a run that exists: how it is read may be typed, a file may have moved, and rows may lack numbers."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from cifrun.cli.main import main
from cifrun.errors import ConfigError
from tests.data.tables.helpers import load
from tests.helpers import without_pictures

TRAIN = "dataset=file dataset.path=my.csv flow=maf flow.hidden=[8] cif=true debug=tiny diagnostics.enabled=false"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table of two columns, whose names no shell likes."""
    home = tmp_path_factory.mktemp("home")
    x = np.random.default_rng(0).normal(size=(200, 2))
    text = "größe (cm);b\n" + "".join(f"{a!r};{b!r}\n".replace(".", ",") for a, b in x.tolist())
    (home / "my.csv").write_text(text)
    with pytest.MonkeyPatch.context() as patch, without_pictures():
        patch.chdir(home)
        words = [*TRAIN.split(), "dataset.columns=[größe (cm),b]", "hydra.run.dir=run"]
        assert main(["train", *words]) == 0
    return home


def scores(path: Path) -> np.ndarray:
    return np.genfromtxt(path, delimiter=",", names=True)["log_likelihood"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("größe (cm),b\n0.5,1.5\n-1,0\n", ""),
        ("größe (cm)|b\n0.5|1.5\n-1|0\n", "'dataset.delimiter=|'"),
        ("größe (cm);b\n0,500;1,500\n-1;0\n", "dataset.decimal=,"),
        ("größe (cm)\tb\n0.5\t1.5\n-1\t0\n", "dataset.delimiter='\\t' dataset.decimal=."),
        ("0.5;1.5\n-1;0\n", "dataset.header=false 'dataset.delimiter=;'"),
        ("größe__b\n0.5__1.5\n", "dataset.delimiter=__"),
    ],
)
def test_how_another_file_is_read_may_be_typed(
    content: str, words: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run)
    Path("plain.csv").write_text("größe (cm),b\n0.5,1.5\n-1,0\n")
    assert main(["eval", "run=run", "data=plain.csv", "per_point=plain-scores.csv"]) == 0
    Path("other.csv").write_text(content)
    code = main(["eval", "run=run", "data=other.csv", "per_point=scores.csv", *shlex.split(words)])
    if "__" in content:
        assert code == 2 and "one ASCII character" in capsys.readouterr().err
    else:
        assert code == 0 and np.array_equal(scores(Path("scores.csv")), scores(Path("plain-scores.csv")))


@pytest.mark.parametrize("word", ["dataset.header=false", "dataset.missing=skip"])
def test_how_the_own_file_of_a_run_is_read_is_settled(
    word: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run)
    assert main(["eval", "run=run", word]) == 2
    assert "says how another file is read: it goes with data=FILE" in capsys.readouterr().err
    assert main(["eval", "run=run", "dataset.seed=3"]) == 2
    assert "a run keeps its dataset" in capsys.readouterr().err


def test_a_file_that_has_moved_is_found_and_another_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run)
    Path("my.csv").rename("moved (1).csv")
    try:
        assert main(["eval", "run=run"]) == 2
        assert "there is no file" in capsys.readouterr().err
        assert main(["eval", "run=run", "dataset.path=moved (1).csv", "per_point=moved.csv"]) == 0
        Path("changed.csv").write_text(Path("moved (1).csv").read_text().replace("0", "1", 1))
        capsys.readouterr()
        assert main(["eval", "run=run", "dataset.path=changed.csv"]) == 2
        assert "changed" in capsys.readouterr().err
    finally:
        Path("moved (1).csv").rename("my.csv")
    assert main(["eval", "run=run", "per_point=here.csv"]) == 0
    assert np.array_equal(scores(Path("here.csv")), scores(Path("moved.csv")))


def test_a_run_goes_on_with_a_file_that_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.csv").write_text("a;b\n" + "".join(f"{k % 17};{k * k % 13}\n" for k in range(200)))
    with without_pictures():
        assert main(["train", *TRAIN.split(), "hydra.run.dir=run"]) == 0
        Path("my.csv").rename("moved.csv")
        Path("other.csv").write_text(Path("moved.csv").read_text().replace("7", "8"))
        more = ["trainer.max_steps=12", "trainer.progress=false"]
        assert main(["train", "resume=run", "dataset.path=other.csv", *more]) == 2
        assert "changed" in capsys.readouterr().err
        assert main(["train", "resume=run", "dataset.path=moved.csv", *more]) == 0
        assert main(["train", "resume=run", "dataset.seed=2", *more]) == 2
    assert "moved.csv" in Path("run/config.yaml").read_text()
    assert main(["eval", "run=run"]) == 0


# --- rows that lack numbers -------------------------------------------------------------------------------------------


def test_a_row_with_an_empty_cell_costs_its_own_score_alone(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run)
    rows = ["0.5,1.5", "NA,1", "-1,0", "2,", "nan,3", "1,1"]
    Path("holes.csv").write_text("größe (cm),b\n" + "\n".join(rows) + "\n")
    Path("whole.csv").write_text("größe (cm),b\n" + "\n".join(rows[k] for k in (0, 2, 5)) + "\n")
    assert main(["eval", "run=run", "data=holes.csv", "per_point=holes-scores.csv"]) == 2
    assert "row 2, column 'größe (cm)' is empty" in (err := capsys.readouterr().err) and "dataset.missing=skip" in err
    words = ["data=holes.csv", "per_point=holes-scores.csv", "dataset.missing=skip"]
    assert main(["eval", "run=run", *words]) == 0
    out = capsys.readouterr().out
    assert "holes.csv, 3 data, 3 skipped" in out and "6 rows → holes-scores.csv" in out
    assert main(["eval", "run=run", "data=whole.csv", "per_point=whole-scores.csv"]) == 0
    assert "skipped" not in capsys.readouterr().out
    found = scores(Path("holes-scores.csv"))
    assert np.flatnonzero(np.isnan(found)).tolist() == [1, 3, 4]
    assert np.array_equal(found[[0, 2, 5]], scores(Path("whole-scores.csv")))
    Path("holes.csv").write_text("größe (cm),b\n,1\n")
    assert main(["eval", "run=run", *words]) == 2
    assert "no row without an empty cell" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["csv", "npy", "parquet"])
@pytest.mark.parametrize("keep", [True, False])
def test_rows_with_an_empty_cell_are_left_out_of_all_splits(
    ending: str, keep: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CIFRUN_DATA", str(tmp_path / "cache"))
    x = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    holes = x.copy()
    holes[::7, 1] = np.nan
    for name, rows in (("whole", x[~np.isnan(holes).any(1)]), ("holes", holes)):
        path = tmp_path / f"{name}.{ending}"
        if ending == "npy":
            np.save(path, rows)
        elif ending == "parquet":
            import pyarrow as pa
            from pyarrow import parquet

            columns = [[None if np.isnan(value) else float(value) for value in column] for column in rows.T]
            parquet.write_table(pa.table(columns, ["x1", "x2"]), path)
        else:
            path.write_text("x1,x2\n" + "".join(f"{a:.9g},{b:.9g}\n".replace("nan", "") for a, b in rows))
    with pytest.raises(ConfigError, match=r"row 1, column 'x2' .*dataset\.missing=skip"):
        load(tmp_path / f"holes.{ending}", keep=keep)
    data = load(tmp_path / f"holes.{ending}", keep=keep, missing="skip")
    assert f"15 of 100 rows of {tmp_path}/holes.{ending} have an empty cell and are left out" in capsys.readouterr().err
    whole = load(tmp_path / f"whole.{ending}", keep=keep)
    for split in ("train", "valid", "test"):
        assert np.array_equal(getattr(data, split)[:], getattr(whole, split)[:])


def test_what_is_infinite_or_no_number_is_never_skipped(tmp_path: Path) -> None:
    for cell, words in (("inf", "which is not finite: remove the row"), ("x", "no number")):
        (tmp_path / "a.csv").write_text(f"a,b\n1,2\n3,{cell}\n4,\n")
        with pytest.raises(ConfigError, match=words):
            load(tmp_path / "a.csv", missing="skip")
    (tmp_path / "a.csv").write_text("a,b\n1,\n,2\n")
    with pytest.raises(ConfigError, match="no rows without an empty cell"):
        load(tmp_path / "a.csv", missing="skip")


def test_a_row_that_is_skipped_takes_its_label_along(tmp_path: Path) -> None:
    rows = "".join(f"{k if k % 5 else ''},{('train', 'valid', 'test')[k % 3]},{k * k % 13}\n" for k in range(60))
    (tmp_path / "a.csv").write_text("a,part,b\n" + rows)
    data = load(tmp_path / "a.csv", split_column="part", missing="skip")
    assert data.test[:, 0].tolist() == [k for k in range(60) if k % 5 and k % 3 == 2]
