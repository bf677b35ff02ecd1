"""The five tables: prepared as the literature does it, and of the published sizes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from cifrun.build import build_standardize
from cifrun.cli.hydra_app import configure
from cifrun.config.schema import check
from cifrun.data.base import Data
from cifrun.data.checks import check_data
from cifrun.data.tables.benchmarks import Benchmark, hold_out, three_splits
from cifrun.data.tables.pickled import read_frame
from cifrun.errors import ConfigError
from cifrun.registry import DATASETS

from ..archive import put

NAMES = [name for name in DATASETS if issubclass(DATASETS[name], Benchmark)]
#: Sizes of the splits that the small archive gives.
SMALL = {
    "power": (324, 36, 40, 6),
    "gas": (243, 27, 30, 7),
    "hepmass": (270, 30, 100, 21),
    "miniboone": (297, 32, 36, 43),
    "bsds300": (100, 5, 25, 63),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    put(root)
    return root


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setattr(DATASETS[name], "published", SMALL[name])


def load(name: str, root: Path, **settings: Any) -> Data:
    return check_data(check(DATASETS[name], {"name": name, "root": str(root), **settings}).load(), name)


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [
        (2_049_280, (1_659_917, 184_435, 204_928)),
        (1_052_065, (852_174, 94_685, 105_206)),
        (36_488, (29_556, 3_284, 3_648)),
    ],
    ids=["power", "gas", "miniboone"],
)
def test_rows_of_the_real_files_give_the_published_splits(rows: int, sizes: tuple[int, ...]) -> None:
    assert tuple(map(len, three_splits(np.empty((rows, 0))))) == sizes


def test_signals_of_hepmass_give_the_published_splits() -> None:
    assert tuple(map(len, hold_out(np.empty((350_136, 0))))) == (315_123, 35_013)


def test_published_sizes_are_what_is_checked(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.undo()
    assert {name: DATASETS[name].published for name in NAMES} == {
        "power": (1_659_917, 184_435, 204_928, 6),
        "gas": (852_174, 94_685, 105_206, 8),
        "hepmass": (315_123, 35_013, 174_987, 21),
        "miniboone": (29_556, 3_284, 3_648, 43),
        "bsds300": (1_000_000, 50_000, 250_000, 63),
    }
    with pytest.raises(ConfigError, match=r"324 \+ 36 \+ 40 points in 6 columns; published are 1,659,917 \+ "):
        load("power", root)


@pytest.mark.parametrize("name", NAMES)
def test_splits_have_their_sizes_and_a_common_scale(name: str, root: Path) -> None:
    data = load(name, root)
    assert (len(data.train), len(data.valid), len(data.test), *data.shape) == SMALL[name]
    rest = torch.cat([data.train, data.valid]).double()
    if name != "bsds300":
        whole = torch.cat([rest, data.test.double()]) if name == "gas" else rest
        correction = 1 if name in ("gas", "hepmass") else 0
        torch.testing.assert_close(whole.mean(0), torch.zeros(SMALL[name][3]).double(), rtol=0, atol=1e-5)
        torch.testing.assert_close(whole.std(0, correction=correction), torch.ones_like(whole[0]), rtol=0, atol=1e-5)
    for preset in ("tables_maf", "tables_resflow"):
        config = configure([f"experiment={preset}", f"dataset={name}"])
        assert build_standardize(config, data) is None, "the literature takes the tables as they are"
    few = load(name, root, num_train=7, num_test=3)
    assert torch.equal(few.train, data.train[:7]) and torch.equal(few.test, data.test[:3])
    assert torch.equal(few.valid, data.valid)


def test_power_is_shuffled_and_blurred_with_the_seed_of_the_literature(root: Path) -> None:
    draw, x = np.random.RandomState(42), np.load(root / "power/data.npy")
    draw.shuffle(x)
    voltage, active, meters = 0.01 * draw.rand(400), 0.001 * draw.rand(400), draw.rand(400, 3)
    x = np.delete(x, [1, 3], 1)
    x += np.column_stack([active, voltage, meters, np.zeros(400)])
    x = (x - x[:360].mean(0)) / x[:360].std(0)
    data = load("power", root)
    np.testing.assert_allclose(torch.cat([data.train, data.valid, data.test]), x, atol=1e-5)


def test_gas_keeps_the_second_of_two_sensors_that_agree(root: Path) -> None:
    names, x = read_frame(root / "gas/ethylene_CO.pickle")
    assert names == ["Time", "Meth", "Eth", *(f"R{k}" for k in range(8))]
    assert np.corrcoef(x.T)[4, 5] > 0.98
    kept = x[:, [3, 5, 6, 7, 8, 9, 10]]
    data = load("gas", root)
    whole = torch.cat([data.train, data.valid, data.test])
    np.testing.assert_allclose(whole, (kept - kept.mean(0)) / kept.std(0, ddof=1), atol=1e-5)


def test_hepmass_keeps_signals_and_columns_of_many_values(root: Path) -> None:
    train = np.loadtxt(root / "hepmass/1000_train.csv", delimiter=",", skiprows=1)
    signal = np.delete(train[train[:, 0] == 1, 1:], 6, 1)
    data = load("hepmass", root)
    whole = torch.cat([data.train, data.valid])
    np.testing.assert_allclose(whole, (signal - signal.mean(0)) / signal.std(0, ddof=1), atol=1e-5)
    test = np.loadtxt(root / "hepmass/1000_test.csv", delimiter=",", skiprows=1)
    test = np.delete(test[test[:, 0] == 1, 1:-1], 6, 1)
    np.testing.assert_allclose(data.test, (test - signal.mean(0)) / signal.std(0, ddof=1), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_not_there_or_others(name: str, root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"there is no .*: cifrun data fetch {name} downloads it, or dataset.root=DIR"
    ):
        load(name, tmp_path)
    for file in DATASETS[name].files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"nothing of the kind")
    with pytest.raises(ConfigError) as error:
        load(name, tmp_path)
    assert len(str(error.value).splitlines()) == 1


# --- an HDF5 file is all that is read ---------------------------------------------------------------------------------


def hdf5(path: Path, change: Callable[[h5py.File], object]) -> str:
    """The sentence for a file of BSDS300 in which something was changed."""
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, rows in (("train", 100), ("validation", 5), ("test", 25)):
            file[name] = np.zeros((rows, 63))
        change(file)
    with pytest.raises(ConfigError) as error:
        load("bsds300", path.parents[1])
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def test_an_hdf5_file_leads_nowhere_else(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["x"] = np.zeros((100, 63))
    (tmp_path / "raw").write_bytes(bytes(100 * 63 * 8))

    def linked(link: Any) -> Callable[[h5py.File], object]:
        def change(file: h5py.File) -> None:
            del file["train"]
            file["train"] = link

        return change

    def external(file: h5py.File) -> None:
        del file["train"]
        file.create_dataset("train", (100, 63), "f8", external=[(str(tmp_path / "raw"), 0, 100 * 63 * 8)])

    def virtual(file: h5py.File) -> None:
        del file["train"]
        layout = h5py.VirtualLayout((100, 63), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.hdf5"), "x", (100, 63))
        file.create_virtual_dataset("train", layout)

    path = tmp_path / "BSDS300/BSDS300.hdf5"
    assert "a link to somewhere else" in hdf5(path, linked(h5py.ExternalLink(str(tmp_path / "other.hdf5"), "/x")))
    assert "a link to somewhere else" in hdf5(path, linked(h5py.SoftLink("/validation")))
    assert "in other files, which are not followed" in hdf5(path, external)
    assert "in other files, which are not followed" in hdf5(path, virtual)


def test_an_hdf5_file_is_not_believed_what_it_says_of_its_size(tmp_path: Path) -> None:
    def claiming(shape: tuple[int, ...], dtype: str = "f8", **more: Any) -> Callable[[h5py.File], object]:
        def change(file: h5py.File) -> None:
            del file["train"]
            file.create_dataset("train", shape, dtype, **more)

        return change

    path = tmp_path / "BSDS300/BSDS300.hdf5"
    assert "has 1,000,000,000,000 rows, and holds none" in hdf5(path, claiming((10**12, 63), chunks=(100, 63)))
    assert "no array of numbers" in hdf5(path, claiming((100, 9, 7)))
    assert "no array of numbers" in hdf5(path, claiming((100, 63), "S5"))

    def partly(file: h5py.File) -> None:
        del file["train"]
        file.create_dataset("train", (10**12, 63), "f8", chunks=(100, 63))[:100] = 1.0

    assert "has 1,000,000,000,000 + 5 + 25 points" in hdf5(path, partly)
    assert "it has no 'train'" in hdf5(path, lambda file: file.move("train", "t"))


def test_an_array_is_not_believed_what_it_says_of_its_size(root: Path, tmp_path: Path) -> None:
    for name, file in (("power", "power/data.npy"), ("miniboone", "miniboone/data.npy")):
        content = (root / file).read_bytes()
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_bytes(re.sub(rb"'shape': \((\d)", rb"'shape': (9999999999\1", content))
        with pytest.raises(ConfigError, match=f"is not dataset '{name}'"):
            load(name, tmp_path)


def test_where_files_are_without_a_root(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setenv("CIFRUN_DATA", str(root))
    assert len(check(DATASETS["power"], {"name": "power"}).load().test) == 40
