"""Splits of tables: of the size asked for, drawn alike, made once, and made anew when the file has changed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifrun.data.tables import splits
from cifrun.data.tables.splits import LEFT_OUT, Assignment
from cifrun.errors import ConfigError, RunError
from cifrun.io.table_files import write_table
from tests.data.tables.helpers import load


def codes(count: int, *arguments: Any) -> np.ndarray:
    return Assignment(count, *arguments)(0, count)


@pytest.mark.parametrize("large", [2**24, 0])
@given(st.integers(3, 300), st.floats(0.01, 0.5), st.floats(0.01, 0.49), st.integers(0, 2**32 - 1), st.integers(1, 50))
@settings(max_examples=100, deadline=None)
def test_splits_are_disjoint_exhaustive_and_of_the_size_asked_for(
    large: int, count: int, valid: float, test: float, seed: int, piece: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "LARGE", large)
        whole = codes(count, (valid, test), seed)
        sizes = np.bincount(whole, minlength=3).tolist()
        assert whole.shape == (count,) and sum(sizes) == count and len(sizes) == 3
        assert sizes[1:] == [max(1, int(valid * count)), max(1, int(test * count))]
        assignment = Assignment(count, (valid, test), seed)
        starts = range(0, count, piece)
        pieces = [assignment(start, min(start + piece, count)) for start in reversed(starts)]
        assert np.array_equal(np.concatenate(pieces[::-1]), whole)
        few = codes(count, (valid, test), seed, (1, None, 1))
        assert (few == 0).sum() == (few == 2).sum() == 1
        assert ((few == whole) | (few == LEFT_OUT)).all()


@pytest.mark.parametrize("large", [2**24, 0])
@given(st.data(), st.integers(1, 200), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_of_given_splits_some_rows_may_be_left_out(large: int, data: st.DataObject, count: int, seed: int) -> None:
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)), dtype=np.uint8)
    most = data.draw(st.tuples(*[st.none() | st.integers(1, 20)] * 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "LARGE", large)
        patch.setattr(splits, "ROWS", 16)
        found = codes(count, (0.1, 0.1), seed, most, labels)
    assert ((found == labels) | (found == LEFT_OUT)).all()
    for code, limit in enumerate(most):
        there = int((labels == code).sum())
        assert (found == code).sum() == (there if limit is None else min(limit, there))


def test_the_splits_of_few_rows_are_those_of_earlier_versions() -> None:
    """The first places of the drawn order are the test set, the next the validation set."""
    order = torch.randperm(100, generator=torch.Generator().manual_seed(7)).numpy()
    found = codes(100, (0.2, 0.1), 7, (30, 5, None))
    assert set(np.flatnonzero(found == 2)) == set(order[:10])
    assert set(np.flatnonzero(found == 1)) == set(order[10:15])
    assert set(np.flatnonzero(found == 0)) == set(order[30:60])
    labels = (np.arange(100) % 2).astype(np.uint8)
    found = codes(100, (0.2, 0.1), 7, (30, None, None), labels)
    assert set(np.flatnonzero(found == 0)) == set(order[order % 2 == 0][:30])


def test_a_keyed_split_is_by_chance() -> None:
    """Of 20 million rows a tenth: the share in each of 100 passages is binomial, p < 1e-6 for one seed in a million."""
    from scipy.stats import chi2

    count, passage = 20_000_000, 5_000
    assignment = Assignment(count, (0.1, 0.1), 3)
    tests = [(assignment(start, start + passage) == 2).sum() for start in range(0, count, count // 100)]
    z = (np.array(tests) - 0.1 * passage) / (0.09 * passage) ** 0.5
    assert 1e-6 < chi2.cdf(np.square(z).sum(), len(z)) < 1 - 1e-6


# --- what is kept -----------------------------------------------------------------------------------------------------


@pytest.fixture
def npy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CIFRUN_DATA", str(tmp_path / "kept"))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(1000, 3)))
    return tmp_path / "x.npy"


def places(path: Path) -> list[Path]:
    return sorted(p for p in (path.parent / "kept").glob("tables/*/*") if p.name != "lock")


def test_what_is_kept_is_the_same_and_made_once(npy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, kept = load(npy), load(npy, keep=True)
    (place,) = places(npy)
    with monkeypatch.context() as patch:
        patch.setattr("cifrun.data.tables.base.read", None)
        again = load(npy, keep=True)
    for split in ("train", "valid", "test"):
        assert torch.equal(getattr(fresh, split), getattr(kept, split))
        assert torch.equal(getattr(fresh, split), getattr(again, split))
    assert again.columns == fresh.columns and again.fingerprint == fresh.fingerprint
    assert sum(file.stat().st_size for file in place.iterdir()) == 1000 * 3 * 4
    other = load(npy, keep=True, seed=1, columns=["x1"])
    assert other.shape == (1,) and not torch.equal(other.test[:, 0], fresh.test[:, 0]) and len(places(npy)) == 2


def test_a_large_npy_has_the_splits_and_numbers_of_a_csv(npy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifrun.data.tables.base.LARGE_FILE", 0)
    x = np.load(npy).astype(np.float32)
    np.save(npy, x)
    write_table(npy.with_suffix(".csv"), {f"x{k + 1}": column for k, column in enumerate(x.T)})
    array, text = load(npy, num_train=700), load(npy.with_suffix(".csv"), num_train=700)
    for split in ("train", "valid", "test"):
        assert torch.equal(getattr(array, split), getattr(text, split))
    assert array.columns == text.columns and len(array.train) == 700
    assert len(places(npy)) == 2, "both are copied, and kept"


def test_a_file_that_changed_is_read_anew(npy: Path) -> None:
    before = load(npy, keep=True)
    old = before.test.clone()
    np.save(npy, 1 + np.load(npy))
    after = load(npy, keep=True)
    assert torch.allclose(after.test, old + 1) and len(places(npy)) == 1
    assert torch.equal(before.test, old), "who read the old one is not disturbed"
    assert before.fingerprint != after.fingerprint


def test_what_a_killed_process_left_does_no_harm(npy: Path) -> None:
    first = load(npy, keep=True).train
    (place,) = places(npy)
    part = place.with_name(place.name.split("-")[0] + "-part")
    place.rename(part)
    (part / "train.float32").unlink()
    (part / "train.float32").write_bytes(b"half")
    assert torch.equal(load(npy, keep=True).train, first) and places(npy) == [place]


def test_a_file_with_a_mistake_leaves_nothing(npy: Path) -> None:
    x = np.load(npy)
    x[5, 1] = np.nan
    np.save(npy, x)
    with pytest.raises(ConfigError, match="row 6, column 'x2'"):
        load(npy, keep=True)
    assert places(npy) == []


def test_a_folder_that_cannot_be_written_is_said(npy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFRUN_DATA", str(npy))
    with pytest.raises(RunError, match=r"can't be written: .*; CIFRUN_DATA names another place, and dataset\.keep"):
        load(npy, keep=True)


def test_of_several_at_once_one_makes_it(npy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Threads, whose locks hold between processes too."""
    begin = Barrier(3)

    def make(_: int) -> torch.Tensor:
        begin.wait(600)
        return load(npy, keep=True).train[:]

    with ThreadPoolExecutor(3) as threads:
        first, *others = threads.map(make, range(3))
    assert len(first) == 800 and all(torch.equal(first, other) for other in others)
    assert capsys.readouterr().err.count("is kept in") == 1
    assert len(places(npy)) == 1
