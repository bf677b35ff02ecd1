"""NumPy's arrays: which of them are columns, and what a file says of them that can't be true."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cifrun.errors import ConfigError
from tests.data.tables.helpers import load, refusal, table


def test_arrays_are_chosen_by_number_or_key(tmp_path: Path) -> None:
    x = np.arange(12.0).reshape(4, 3)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "line.npy", x[:, 1])
    np.savez(tmp_path / "x.npz", height=x[:, 0], size=x[:, 1:])
    assert table(tmp_path / "x.npy").columns == ("x1", "x2", "x3")
    assert np.array_equal(table(tmp_path / "x.npy", ["3", "x1"]).values, x[:, [2, 0]])
    assert np.array_equal(table(tmp_path / "line.npy").values, x[:, 1:2])
    assert table(tmp_path / "x.npz").columns == ("height", "size1", "size2")
    assert np.array_equal(table(tmp_path / "x.npz").values, x)
    np.savez(tmp_path / "one.npz", x)
    assert table(tmp_path / "one.npz", ["3"]).columns == ("arr_03",)


def test_arrays_of_truth_values_are_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[True, False], [False, True]]))
    assert table(tmp_path / "x.npy").values.tolist() == [[1, 0], [0, 1]]


def test_arrays_that_are_no_tables(tmp_path: Path) -> None:
    cases: dict[str, tuple[Callable[[Path], None], str]] = {
        "deep.npy": (lambda path: np.save(path, np.zeros((2, 2, 2))), r"shape \(2, 2, 2\)"),
        "text.npy": (lambda path: np.save(path, np.array([["a", "b"]])), "column 'x1' holds <U1 and no numbers"),
        "objects.npy": (lambda path: np.save(path, np.array([{}, {}])), "Python objects"),
        "uneven.npz": (lambda path: np.savez(path, a=np.zeros(3), b=np.zeros(4)), "different lengths: a 3, b 4"),
        "deep.npz": (lambda path: np.savez(path, a=np.zeros((2, 2, 2))), r"a is an array of shape \(2, 2, 2\)"),
        "objects.npz": (lambda path: np.savez(path, a=np.array([{}, {}])), "Python objects"),
        "complex.npy": (lambda path: np.save(path, np.zeros((2, 2), complex)), "holds complex128 and no numbers"),
        "fields.npy": (lambda path: np.save(path, np.zeros(2, [("a", "f8")])), "and no numbers"),
        "rows.npy": (lambda path: np.save(path, np.zeros((0, 2**40))), "no rows"),
        "columns.npy": (lambda path: np.save(path, np.zeros((5, 0))), "no columns"),
        "none.npz": (lambda path: np.savez(path), "no columns"),
    }
    for name, (write, words) in cases.items():
        write(tmp_path / name)
        with pytest.raises(ConfigError, match=words):
            table(tmp_path / name)


# --- arrays beside the table ------------------------------------------------------------------------------------------


def test_arrays_beside_the_table_are_left_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    others = {
        "mean": x.mean(0),
        "seed": np.array(3),
        "cube": np.zeros((2, 2, 2)),
        "notes": np.array(["by me", None], dtype=object),
        "empty": np.zeros(0),
    }
    np.savez(tmp_path / "x.npz", x=x, **others)
    data = load(tmp_path / "x.npz")
    assert data.columns == ("x1", "x2", "x3")
    together = np.concatenate([data.train, data.valid, data.test])
    assert np.array_equal(np.sort(together, 0), np.sort(x, 0))
    err = capsys.readouterr().err
    assert "seed, cube, notes, empty, no columns of numbers" in err
    assert "mean, of other lengths than the table" in err
    assert table(tmp_path / "x.npz", ["x2", "x1"]).values.tolist() == x[:, [1, 0]].tolist()
    assert capsys.readouterr().err == ""


def test_columns_of_one_length_may_be_named_among_others(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.arange(3.0), b=np.arange(3.0) ** 2, c=np.zeros(4))
    assert table(tmp_path / "x.npz", ["b", "a"]).values.tolist() == [[0, 0], [1, 1], [4, 2]]
    assert "a 3, b 3, c 4: name some, 'dataset.columns=[a,b]'" in refusal(tmp_path / "x.npz")


def test_only_what_is_asked_for_is_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((50_000, 2)), y=np.random.default_rng(0).normal(size=50_000))
    content = (tmp_path / "x.npz").read_bytes()
    entry = zipfile.ZipFile(tmp_path / "x.npz").getinfo("y.npy")
    broken = bytearray(content)
    broken[entry.header_offset + 300_000] ^= 0xFF  # in the middle of what is packed
    (tmp_path / "x.npz").write_bytes(broken)
    assert table(tmp_path / "x.npz", ["x1", "x2"]).values.shape == (50_000, 2)
    assert "damaged" in refusal(tmp_path / "x.npz")


# --- sizes that can't be true -----------------------------------------------------------------------------------------


def claims(shape: str, descr: str = "'<f8'", size: int = 64) -> bytes:
    """An npy file that says that its array has this shape."""
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(size)


CLAIMS = [
    claims("(1000000000000, 2)"),
    claims("(9,)"),
    claims("(-1, 4)"),
    claims("(2.5,)"),
    claims("(18446744073709551616, 2)"),
    claims("(4, 2)", "'|O'"),
    claims("(4, 2)", "'no type'"),
    claims("(4, 2)", "[('a', 'f8', (1000000000000,))]"),
    claims("(4, 2)").replace(b"'shape'", b"'sharp'"),
    claims("(" * 2000),
    b"\x93NUMPY\x03\x00\xff\xff\xff\xff",
    b"\x93NUMPY\x09\x00" + bytes(100),
    b"\x93NUM",
]


@pytest.mark.parametrize("content", CLAIMS, ids=range(len(CLAIMS)))
@pytest.mark.parametrize("packed", [False, True])
def test_what_a_file_says_of_its_size_is_compared_with_what_it_holds(
    packed: bool, content: bytes, tmp_path: Path
) -> None:
    if not packed:
        assert "can't be read as an array of numbers" in refusal(tmp_path / "a.npy", content)
        return
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    assert "can't be read as an array of numbers" in refusal(tmp_path / "a.npz")


def test_an_entry_that_says_that_it_is_larger_than_it_can_be(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", claims("(1000000000, 2)"))
    content = bytearray(stream.getvalue())
    place = content.rfind(b"PK\x01\x02") + 24
    content[place : place + 4] = (2**32 - 2).to_bytes(4, "little")
    assert "can't be read as an array of numbers" in refusal(tmp_path / "a.npz", bytes(content))


def test_what_is_unpacked_goes_to_a_file_and_not_to_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.zeros((4, 2))
    x[1] = 1, 2
    np.savez_compressed(tmp_path / "x.npz", x=x)
    written: list[int] = []
    scratch = __import__("cifrun.data.tables.arrays", fromlist=["scratch"]).scratch
    monkeypatch.setattr("cifrun.data.tables.arrays.scratch", lambda *a: written.append(1) or scratch(*a))
    assert np.array_equal(table(tmp_path / "x.npz").values, x) and written == [1]
    assert os.listdir(tmp_path) == ["x.npz"]
