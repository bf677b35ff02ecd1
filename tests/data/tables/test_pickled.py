"""Pickles: read without what wrote them, without running anything, and with no memory but the file's."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifrun.data.tables.pickled import array_of, read_frame, read_pickled
from cifrun.errors import ConfigError

from ..archive import pickled


def test_a_pickled_frame_is_read_without_pandas(tmp_path: Path) -> None:
    x = np.arange(15.0).reshape(3, 5)
    (tmp_path / "x").write_bytes(pickled(list("abcde"), x))
    names, found = read_frame(tmp_path / "x")
    assert names == list("abcde") and np.array_equal(found, x)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "u1", "<i8", "?", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_plain_numbers_are_made_of_their_bytes(dtype: str, order: Any, protocol: int, tmp_path: Path) -> None:
    x = np.asarray(np.arange(24).reshape(4, 3, 2), dtype, order)
    (tmp_path / "x").write_bytes(pickle.dumps({"data": x, "one": x[0, 0, 1]}, protocol))
    found = read_pickled(tmp_path / "x")
    assert np.array_equal(array_of(found["data"]), x) and array_of(found["data"]).dtype == x.dtype
    assert array_of(found["one"]) == x[0, 0, 1]


class Evil:
    """Runs a command when it is unpickled by a reader that trusts."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("evil"),)


@pytest.mark.parametrize("content", [Evil(), {"a": Evil()}, np.array([Evil()]), [1, 2], b"", None])
def test_a_pickle_runs_nothing(content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").write_bytes(pickle.dumps(content) if content != b"" else b"")
    with pytest.raises(ConfigError, match="is not a pickled table of numbers"):
        read_frame(tmp_path / "x")
    assert not Path("evil").exists()


# --- what NumPy would believe -----------------------------------------------------------------------------------------


class Called:
    """Pickled as a call of a function, and what its result is then told."""

    def __init__(self, call: Callable[..., Any], arguments: tuple[Any, ...], state: Any = None) -> None:
        self.parts = (call, arguments) if state is None else (call, arguments, state)

    def __reduce__(self) -> Any:
        return self.parts


RECONSTRUCT: Any = np.empty(1).__reduce__()[0]
SCALAR: Any = np.float64(0).__reduce__()[0]


def array(shape: Any, dtype: Any, content: Any) -> Called:
    return Called(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, shape, dtype, False, content))


#: A type that says that it is numbers, with the flags of one that holds pointers.
POINTERS = Called(np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype(object), 0)}, 8, 1, 27))
TAMPERED = Called(np.dtype, ("f8", False, True), (3, "<", None, ("a",), {"a": (np.dtype(object), 0)}, 8, 1, 63))
PLAIN = np.dtype("<f8")

ARRAYS: dict[str, Any] = {
    "pointers": array((2,), POINTERS, b"\x41" * 16),
    "a tampered type": array((2,), TAMPERED, b"\x41" * 16),
    "objects": array((2,), np.dtype(object), b"\x41" * 16),
    "uninitialised": Called(np.ndarray, ((1000,),)),
    "uninitialised, of a type": Called(np.ndarray, ((1000,), "f8")),
    "too large": array((10**12,), PLAIN, b"\x41" * 16),
    "too small": array((1,), PLAIN, b"\x41" * 16),
    "overflowing": array((2**62, 4), PLAIN, b""),
    "negative": array((-1, -2), PLAIN, b"\x41" * 16),
    "of floats": array((2.0,), PLAIN, b"\x41" * 16),
    "of true": array((True,), PLAIN, b"\x41" * 8),
    "of no type": array((2,), "f8", b"\x41" * 16),
    "of a list": array((2,), PLAIN, [1.0, 2.0]),
    "never told": Called(RECONSTRUCT, (np.ndarray, (1000,), b"f8")),
    "a scalar of objects": Called(SCALAR, (np.dtype(object), b"\x41" * 8)),
    "a scalar that is too long": Called(SCALAR, (PLAIN, b"\x41" * 80)),
    "a text type": array((2,), np.dtype("U4"), b"\x41" * 32),
    "an enormous type": array((1,), Called(np.dtype, ("V2147483647", False, True)), b"\x41"),
    "another byte order": array((2,), Called(np.dtype, ("f8",), (3, "x", None, None, None, -1, -1, 0)), b"\x41" * 16),
    "a subarray": array((1,), Called(np.dtype, ("f8",), (3, "<", (PLAIN, (2,)), None, None, -1, -1, 0)), b"\x41" * 16),
}


@pytest.mark.parametrize("made", ARRAYS.values(), ids=ARRAYS.keys())
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_an_array_that_is_not_in_the_file_is_refused(protocol: int, made: Any, tmp_path: Path) -> None:
    """NumPy's own functions follow such bytes as pointers, or give out memory as they find it."""
    (tmp_path / "x").write_bytes(pickle.dumps({"data": made}, protocol))
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        array_of(read_pickled(tmp_path / "x")["data"])


# --- what takes memory, or leads out of the file ----------------------------------------------------------------------

STREAMS = {
    "a memo of billions": b"\x80\x02]r" + struct.pack("<I", 2**31) + b".",
    "a memo of billions in text": b"(lp99999999999\n.",
    "bytes beyond the end": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",
    "a text beyond the end": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"abc.",
    "persistent": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "an extension": b"\x80\x02\x82\x01.",
    "a buffer elsewhere": b"\x80\x05\x97.",
    "a function that is changed": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}X\x01\x00\x00\x00aK\x01sb.",
    "a class that is changed": b"\x80\x02cpandas.core.frame\nDataFrame\n}X\x01\x00\x00\x00aK\x01sb.",
    "cut off": b"\x80\x02]q\x00(K\x01",
}


@pytest.mark.parametrize("content", STREAMS.values(), ids=STREAMS.keys())
def test_a_stream_that_asks_for_more_than_the_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ConfigError, match="is not a pickled table of numbers"):
        read_frame(tmp_path / "x")


def test_columns_that_the_blocks_do_not_fill_are_refused(tmp_path: Path) -> None:
    """Else a few names and rows would be memory for all their pairs."""
    x = np.arange(15.0).reshape(3, 5)
    content = pickled(list("abcde"), x)
    (tmp_path / "x").write_bytes(content.replace(b"mgr_locs", b"mgr_lost"))
    with pytest.raises(ConfigError, match="is not a pickled table of numbers"):
        read_frame(tmp_path / "x")
