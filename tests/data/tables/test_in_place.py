"""A large npy file is read where it is: nothing is written, and all else is as of a copy."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cifrun.data.tables.base.base import File
from cifrun.data.tables.base.in_place import Chosen, Rows, stamp
from cifrun.data.tables.base.paging import at_random
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.cli.main import main
from cifrun.config.schema import TrainerConfig, check
from cifrun.data.base import Data
from cifrun.data.tables import in_place
from cifrun.errors import ConfigError, RunError
from cifrun.training.state import Batches

SPLITS = ("train", "valid", "test")


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All files are large, all splits too large to be held; a table of 5000 × 3 numbers in single precision."""
    monkeypatch.setattr("cifrun.data.tables.base.LARGE_FILE", 0)
    monkeypatch.setattr("cifrun.data.tables.base.HELD", 0)
    monkeypatch.setenv("CIFRUN_DATA", str(tmp_path / "kept"))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32))
    return tmp_path / "x.npy"


def load(path: Path, **settings: Any) -> Data:
    return check(File, {"name": "file", "path": str(path), **settings}, "dataset").load().check("file")


def forbid_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """No temporary file, and no file that stays, can be made."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a copy")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr("cifrun.data.tables.base.kept", refuse)


# --- which rows -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 1000), st.sampled_from([0.01, 0.1, 0.5, 0.9, 1.0]), st.sampled_from([128, 256, 1024]), st.data())
@settings(max_examples=200, deadline=None)
def test_the_kth_of_those_that_are_chosen(count: int, share: float, piece: int, data: st.DataObject) -> None:
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random(count) < share
    mask[data.draw(st.integers(0, count - 1))] = True
    chosen, there = Chosen(count), np.flatnonzero(mask)
    for start in range(0, count, piece):
        chosen.add(mask[start : start + piece])
    assert len(chosen) == len(there)
    assert np.array_equal(chosen.at(np.arange(len(there))), there)
    start = data.draw(st.integers(0, len(there) - 1))
    stop = data.draw(st.integers(start + 1, len(there)))
    assert np.array_equal(chosen.between(start, stop), there[start:stop])


@pytest.mark.parametrize("order", [2**24, 0])
@pytest.mark.parametrize("shape", [(5000, 3), (5000,)])
@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", "<f2", "<i8", "u1", "g"])
def test_numbers_and_splits_are_those_of_a_copy(
    kind: str, shape: tuple[int, ...], order: int, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = 50 + 1e4 ** (kind == "<i8") * 9 * np.random.default_rng(0).normal(size=shape)
    np.save(large, x.astype(kind))
    monkeypatch.setattr("cifrun.data.tables.splits.LARGE", order)
    copied = load(large, keep=True, num_train=4500, num_valid=77, test_fraction=0.05)
    with monkeypatch.context() as patch:
        forbid_copies(patch)
        found = load(large, num_train=4500, num_valid=77, test_fraction=0.05)
    for split in SPLITS:
        rows, tensor = getattr(found, split), getattr(copied, split)
        assert isinstance(rows, Rows) and not isinstance(tensor, Rows)
        assert (rows.shape, len(rows), rows.ndim) == (tensor.shape, len(tensor), tensor.ndim)
        assert (rows.nbytes, rows.dtype, rows.device) == (tensor.nbytes, tensor.dtype, tensor.device)
        some = torch.tensor([len(tensor) - 1, 0, 5, 5])
        for which in (slice(None), slice(3, 40), slice(2, None, 7), slice(9, 9), slice(-5, 9999), some, some[:0]):
            assert torch.equal(rows[which], tensor[which]), which
        assert torch.equal(rows.to(torch.device("cpu"))[:], tensor)
    assert all(map(torch.equal, found.moments(), copied.moments()))
    assert torch.equal(found.covariance(), copied.covariance())
    assert (found.columns, found.fingerprint) == (copied.columns, copied.fingerprint)
    for shuffle in ("rows", "blocks"):
        orders = [Batches.of(x.train, TrainerConfig(shuffle=shuffle, batch_size=999), 0) for x in (found, copied)]
        for step in range(6):
            one, other = (batches.indices(step) for batches in orders)
            assert torch.equal(found.train[one], copied.train[other])


def test_integers_are_rounded_as_those_of_a_copy() -> None:
    """To double, then to single precision: 2⁶⁰ + 2³⁶ + 1 is above the middle of two singles, but a double is not."""
    x = np.array([[2**60 + 2**36 + 1]])
    assert in_place.single(x) == np.float32(np.float64(x)) == 2**60
    assert x.astype(np.float32) != 2**60


def test_places_that_are_not_there_are_refused(large: Path) -> None:
    for place in (-1, 4000):
        with pytest.raises(IndexError, match="4000 rows"):
            load(large).train[torch.tensor([0, place])]


def test_nothing_is_written_whatever_is_kept(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_copies(monkeypatch)
    before = stamp(large), sorted(large.parent.iterdir())
    for keep in (False, "auto"):
        assert isinstance(load(large, keep=keep).train, Rows)
    assert (stamp(large), sorted(large.parent.iterdir())) == before


def test_a_small_split_is_held(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows may lie far apart in the file, and are read again and again."""
    monkeypatch.setattr("cifrun.data.tables.base.HELD", 4 * 3 * 500)
    forbid_copies(monkeypatch)
    held = load(large, valid_fraction=0.1, test_fraction=0.2)
    assert [isinstance(getattr(held, split), Rows) for split in SPLITS] == [True, False, True]
    monkeypatch.setattr("cifrun.data.tables.base.HELD", 0)
    found = load(large, valid_fraction=0.1, test_fraction=0.2)
    assert torch.equal(held.valid[:], found.valid[:]) and isinstance(found.valid, Rows)


# --- what is copied ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"keep": True},
        {"columns": ["x1", "x3"]},
        {"columns": [2, 1, 3]},
        {"num_train": 2499},
        {"valid_fraction": 0.3, "test_fraction": 0.3},
    ],
)
def test_a_copy_is_made_where_it_is_smaller_or_asked_for(options: dict[str, Any], large: Path) -> None:
    data = load(large, **options)
    assert not any(isinstance(getattr(data, split), Rows) for split in SPLITS)
    assert list((large.parent / "kept").glob("tables/*/*"))


def test_files_of_another_form_are_copied(large: Path) -> None:
    x = np.load(large)
    np.save(large, np.asfortranarray(x))
    assert not isinstance(load(large).train, Rows)
    np.savez(large.with_suffix(".npz"), x)
    assert not isinstance(load(large.with_suffix(".npz")).train, Rows)


def test_a_small_file_is_copied(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifrun.data.tables.base.LARGE_FILE", large.stat().st_size + 1)
    assert not isinstance(load(large, keep=False).train, Rows)


# --- mistakes ---------------------------------------------------------------------------------------------------------


def spoilt(x: np.ndarray, row: int, column: int, value: float) -> np.ndarray:
    x = x.astype(np.float64)
    x[row, column] = value
    return x


MISTAKES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "nan": (lambda x: spoilt(x, 4321, 1, np.nan), "row 4322, column 'x2' holds nan, which is not finite"),
    "inf": (lambda x: spoilt(x, 0, 2, -np.inf).astype(np.float32), "row 1, column 'x3' holds -inf"),
    "much": (lambda x: spoilt(x, 4999, 0, 1e39), r"row 5000, column 'x1' holds 1e\+39, more than single precision"),
    "constant": (lambda x: np.c_[x, np.full(len(x), 7.0)], "column 'x4' is constant"),
    "equal": (lambda x: x[:, [0, 1, 0]], "column 'x3' is equal to column 'x1'"),
    "far": (lambda x: 1e9 + 50 * np.sign(x).astype(np.float64), "column 'x1' varies by"),
    "few": (lambda x: x[:3], "1 training point: it needs at least 2"),
    "no rows": (lambda x: x[:0], "has no rows"),
    "text": (lambda x: x.astype(str), "column 'x1' holds .* and no numbers"),
    "deep": (lambda x: x[None], r"array of shape \(1, 5000, 3\)"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_called_what_they_are_of_a_copy(mistake: str, large: Path) -> None:
    make, words = MISTAKES[mistake]
    np.save(large, make(np.load(large)))
    sentences = []
    for keep in (True, "auto"):
        with pytest.raises(ConfigError, match=words) as error:
            load(large, keep=keep, valid_fraction=0.01, test_fraction=0.01)
        sentences.append(str(error.value))
    assert sentences[0] == sentences[1] and "\n" not in sentences[0]


def test_a_mistake_in_a_later_piece_is_found(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifrun.data.tables.formats.ROWS", 100)
    np.save(large, spoilt(np.load(large), 4321, 1, np.nan))
    with pytest.raises(ConfigError, match="row 4322, column 'x2' holds nan"):
        load(large)


# --- a file that changes ----------------------------------------------------------------------------------------------


def write_again(path: Path) -> None:
    np.save(path, 1 + np.load(path))


def cut_off(path: Path) -> None:
    os.truncate(path, 4096)


def write_inside(path: Path) -> None:
    with open(path, "r+b") as stream:
        stream.seek(1000)
        stream.write(b"\0\0\0\0")


@pytest.mark.parametrize("change", [write_again, cut_off, write_inside])
def test_a_file_that_changes_while_it_is_read_is_refused(change: Callable[[Path], None], large: Path) -> None:
    data = load(large)
    os.utime(large, (0, 0))  # the clock of a file system may be a coarse one
    data = load(large)
    assert len(data.train[:10]) == 10
    change(large)
    for ask in (lambda: data.train[torch.tensor([0, 3999])], lambda: data.test[:], lambda: data.valid[::7]):
        with pytest.raises(RunError, match=r"x\.npy has changed while it was read: .* dataset\.keep=true"):
            ask()


def test_a_file_that_changes_while_rows_are_fetched_gives_none(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(large, (0, 0))
    data, convert = load(large), in_place.single

    def meanwhile(x: np.ndarray) -> np.ndarray:
        write_inside(large)
        return convert(x)

    monkeypatch.setattr(in_place, "single", meanwhile)
    with pytest.raises(RunError, match="has changed while it was read"):
        data.train[torch.tensor([0])]
    os.utime(large, (0, 0))
    with pytest.raises(RunError, match="has changed while it was read"):
        load(large)


def test_a_file_in_whose_place_another_comes_is_read_on(large: Path) -> None:
    data = load(large)
    before = data.test[:]
    np.save(large.with_name("new.npy"), 1 + np.load(large))
    large.with_name("new.npy").rename(large)
    assert torch.equal(data.test[:], before)
    assert torch.equal(load(large).test[:], before + 1)
    large.unlink()
    assert torch.equal(data.test[:], before)


# --- runs -------------------------------------------------------------------------------------------------------------


def words(path: Path, *more: str) -> list[str]:
    dataset = ["dataset=file", f"dataset.path={path}", "dataset.num_train=4000"]
    return ["train", *dataset, "flow=maf", "flow.hidden=[8]", "debug=tiny", *more]


def test_a_run_is_that_of_a_copy(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From training to the test set and other data, and on from where it stopped; unless the file has changed."""
    monkeypatch.chdir(tmp_path)
    np.save("two.npy", 5 + np.load(large)[:, :2])
    assert main(words(Path("two.npy"), "hydra.run.dir=copied", "dataset.keep=true")) == 0
    with monkeypatch.context() as patch:
        forbid_copies(patch)
        assert main(words(Path("two.npy"), "hydra.run.dir=run")) == 0
        results = [json.loads(Path(f"{run}/summary.json").read_text()) for run in ("run", "copied")]
        for result in results:
            del result["wall_seconds"], result["test"]["seconds"]
        assert results[0] == results[1]
        assert main(["eval", "run=run", "per_point=test.npz"]) == 0
        np.save("other.npy", np.load("two.npy")[:100])
        assert main(["eval", "run=run", "data=other.npy", "per_point=other.npz"]) == 0
    monkeypatch.setattr("cifrun.data.tables.base.LARGE_FILE", 2**30)
    assert main(["eval", "run=run", "data=other.npy", "per_point=copied.npz"]) == 0
    one, other = (np.load(name)["log_likelihood"] for name in ("other.npz", "copied.npz"))
    assert np.array_equal(one, other) and len(one) == 100

    monkeypatch.setattr("cifrun.data.tables.base.LARGE_FILE", 0)
    write_again(Path("two.npy"))
    capsys.readouterr()
    for command in (["eval", "run=run"], ["train", "resume=run", "trainer.max_steps=1000"]):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "run was trained on has changed since" in err, err


def test_other_data_with_a_mistake_are_refused(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words(large, "hydra.run.dir=run")) == 0
    np.save("other.npy", spoilt(np.load(large), 10, 2, np.inf))
    capsys.readouterr()
    assert main(["eval", "run=run", "data=other.npy"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "row 11, column 'x3' holds inf" in err


def test_a_file_that_changes_while_a_run_reads_it_is_one_sentence(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    os.utime(large, (0, 0))
    indices = Batches.indices

    def meanwhile(batches: Batches, step: int) -> torch.Tensor:
        if step == 2:
            write_again(large)
        return indices(batches, step)

    monkeypatch.setattr(Batches, "indices", meanwhile)
    assert main(words(large, "hydra.run.dir=run", "trainer.progress=false")) == 2
    err = capsys.readouterr().err
    assert "has changed while it was read" in err and "Traceback" not in err and err.count("\n") == 1, err


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="asks Linux what it was told")
def test_only_the_training_rows_are_read_at_random(large: Path) -> None:
    data = load(large)

    def flags(x: Rows) -> str:
        address = x._array.ctypes.data
        smaps = Path("/proc/self/smaps").read_text()
        for low, high, told in re.findall(r"^(\w+)-(\w+) .*?VmFlags: ([a-z ]+)", smaps, re.DOTALL | re.MULTILINE):
            if int(low, 16) <= address < int(high, 16):
                return told
        raise AssertionError("not mapped")

    at_random(data.train)
    assert " rr " in flags(data.train)
    assert " rr " not in flags(data.valid) and " rr " not in flags(data.test)
