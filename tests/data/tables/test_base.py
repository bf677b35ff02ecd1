"""A file of one's own as a dataset: its columns, its splits, and the precision in which it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cifrun.config.schema import check
from cifrun.data.findings import findings
from cifrun.data.tables.base import File
from cifrun.data.tables.formats import open_source
from cifrun.data.tables.reading import read
from cifrun.errors import ConfigError
from tests.data.tables.helpers import load


def test_every_row_is_in_one_split(csv: Path) -> None:
    columns = ["weight", "angle"]
    whole = read(open_source(csv), columns).values
    data = load(csv, columns=columns, valid_fraction=0.2, test_fraction=0.3)
    assert [len(x) for x in (data.train, data.valid, data.test)] == [500, 200, 300]
    assert data.columns == ("weight", "angle")
    together = np.concatenate([data.train, data.valid, data.test])
    assert np.array_equal(np.sort(together[:, 0]), np.sort(whole[:, 0]))
    other = load(csv, columns=columns, valid_fraction=0.2, test_fraction=0.3, seed=1)
    assert not torch.equal(data.test, other.test)


def test_a_column_may_say_the_split(tmp_path: Path) -> None:
    words = ["train", "Validation", " test", "dev"]
    rows = "".join(f"{k},{words[k % 4]},{k * k % 13}\n" for k in range(40))
    (tmp_path / "a.csv").write_text("a,part,b\n" + rows)
    data = load(tmp_path / "a.csv", split_column="part")
    assert data.columns == ("a", "b")
    assert data.train[:, 0].tolist() == list(range(0, 40, 4))
    assert data.valid[:, 0].tolist() == sorted([*range(1, 40, 4), *range(3, 40, 4)])
    assert data.test[:, 0].tolist() == list(range(2, 40, 4))
    assert len(load(tmp_path / "a.csv", split_column="part", num_valid=3).valid) == 3
    with pytest.raises(ConfigError, match=r"row 1, column 'part' holds 'train', no number"):
        load(tmp_path / "a.csv")
    with pytest.raises(ConfigError, match=r"row 2, column 'a' holds '1': it should be one of train"):
        (tmp_path / "b.csv").write_text("a,b\ntrain,1\n1,2\n")
        load(tmp_path / "b.csv", split_column="a")
    with pytest.raises(ConfigError, match=r"no column 'parts', which dataset.split_column names"):
        load(tmp_path / "a.csv", split_column="parts")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"path": None}, "dataset.path is missing"),
        ({"columns": []}, r"dataset.columns = \[\]"),
        ({"columns": "some"}, "dataset.columns = 'some'"),
        ({"columns": ["height", "wait"]}, "no column 'wait'.*did you mean 'weight'"),
        ({"valid_fraction": 0.5, "test_fraction": 0.5}, "leaves nothing to train on"),
        ({"valid_fraction": 0.0}, "dataset.valid_fraction = 0.0"),
        ({"split_column": "name"}, "column 'name' holds 'p0'"),
        ({"split_column": "name", "columns": ["name", "height"]}, "column 'name' of .* says the split"),
    ],
)
def test_one_sentence_for_a_wrong_setting(settings: dict[str, Any], words: str, csv: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        check(File, {"name": "file", "path": str(csv), **settings}, "dataset").load()


def test_without_standardising_numbers_that_single_precision_merges_are_told(tmp_path: Path) -> None:
    x = 5e6 + 10 * np.random.default_rng(0).normal(size=500)
    (tmp_path / "a.csv").write_text("time\n" + "".join(f"{a!r}\n" for a in x.tolist()))
    data = load(tmp_path / "a.csv", standardize=False)
    assert data.train.dtype == torch.float32 and [found.kind for found in findings(data)] == ["coarse"]
    assert findings(load(tmp_path / "a.csv", standardize=True)) == []


@pytest.mark.parametrize("keep", [True, False])
def test_a_table_that_is_kept_is_as_precise(keep: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFRUN_DATA", str(tmp_path / "cache"))
    np.save(tmp_path / "a.npy", 1e8 + np.random.default_rng(0).normal(size=(200, 2)))
    for _ in range(2):
        data = load(tmp_path / "a.npy", keep=keep, standardize=True)
        assert data.train.dtype == torch.float64 and len(data.train[:, 0].unique()) == 160


def test_a_path_is_the_same_from_everywhere(csv: Path) -> None:
    assert load(Path("my.csv"), columns=["weight"]).shape == (1,)
    assert check(File, {"name": "file", "path": "my.csv"}).path == csv


def test_data_without_names_are_taken_in_order(csv: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "two.npy", np.arange(6.0).reshape(3, 2))
    file = File(name="file", path=csv)
    values, others = file.read(tmp_path / "two.npy", ["height", "weight"])
    assert values.tolist() == [[0, 1], [2, 3], [4, 5]] and others == []
    values, _ = file.read(tmp_path / "two.npy", ["x2", "x1"])  # of a run on such a file, with columns=[2,1]
    assert values.tolist() == [[1, 0], [3, 2], [5, 4]]
