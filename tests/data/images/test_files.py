"""The original files of images: what is in them is read, or one sentence says what is wrong with them."""

from __future__ import annotations

import gzip
import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from cifrun.data.images import files
from cifrun.data.images.files import read_array, read_batch, read_idx, read_mat, read_records
from cifrun.errors import ConfigError

from ..image_archive import NAMES, batch, idx, images, load, put, records


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("below", ["", "its name"])
@pytest.mark.parametrize("name", NAMES)
def test_original_files_are_read(name: str, below: str, plain: bool, tmp_path: Path) -> None:
    put(name, tmp_path / name if below else tmp_path, plain)
    data = load(name, root=tmp_path)
    train, test = images(name)
    held_out = len(train) // 10
    assert torch.equal(data.train, torch.from_numpy(train[:-held_out]))
    assert torch.equal(data.valid, torch.from_numpy(train[-held_out:]))
    assert torch.equal(data.test, torch.from_numpy(test))
    assert (data.levels, data.binary, data.train.dtype) == (256, False, torch.uint8)
    few = load(name, root=tmp_path, num_train=3, num_valid=1, num_test=2)
    assert torch.equal(few.train, data.train[:3]) and (len(few.valid), len(few.test)) == (1, 2)


def mat(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    savemat(stream, arrays)
    return stream.getvalue()


GREY, COLOUR = images("mnist")[0], images("cifar10")[0]


X = GREY[:, 0, 0]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("name", "file", "content", "words"),
    [
        ("mnist", "train-images-idx3-ubyte.gz", gzip.compress(idx(GREY))[:-500], ["cut off or damaged"]),
        ("mnist", "train-images-idx3-ubyte.gz", b"", ["begins with the bytes , and not"]),
        ("mnist", "train-images-idx3-ubyte", idx(GREY)[:-1], ["announces 15,680 pixels and holds 15,679"]),
        ("mnist", "train-images-idx3-ubyte", idx(GREY) + b"x", ["holds 15,681"]),
        ("mnist", "train-images-idx3-ubyte", idx(GREY)[:9], ["sizes are 20, where they should be N × 28 × 28"]),
        ("mnist", "train-images-idx3-ubyte", b"<html>sorry</html>", ["3c 68 74 6d", "not with 00 00 08 03"]),
        ("mnist", "train-images-idx3-ubyte", b"\0\0\x0d" + idx(GREY)[3:], ["00 00 0d 03"]),
        ("mnist", "train-images-idx3-ubyte", b"\0\0\x08\x01" + struct.pack(">I", 4) + b"1234", ["sizes are 4, where"]),
        ("mnist", "train-images-idx3-ubyte", b"\0\0\x08\x03" + struct.pack(">3I", 1, 4, 7) + bytes(28), ["1 × 4 × 7"]),
        ("cifar10", "cifar-10-batches-py/data_batch_2", batch(COLOUR)[:-999], ["data_batch_2", "or damaged"]),
        ("cifar10", "cifar-10-batches-py/data_batch_2", batch(X), ["no array 'data' of N × 3072"]),
        ("cifar10", "cifar-10-batches-py/data_batch_2", b"cos\nsystem\n(S'touch evil'\ntR.", ["it names os.system"]),
        ("cifar10", "cifar-10-batches-py/test_batch", batch(COLOUR.astype(np.float32)), ["type float32", "uint8"]),
        ("cifar10", "cifar-10-batches-bin/test_batch.bin", records(COLOUR)[:-5], ["61,455 bytes", "of 3,073"]),
        ("svhn", "test_32x32.mat", b"nothing of the kind" * 20, ["test_32x32.mat"]),
        ("svhn", "test_32x32.mat", mat(y=X), ["no array 'X' of 32 × 32 × 3 × N"]),
        ("svhn", "test_32x32.mat", mat(X=np.zeros((3, 32, 32, 5), np.uint8)), ["no array 'X'"]),
        ("svhn", "test_32x32.mat", mat(X=np.zeros((32, 32, 3, 5))), ["type float64"]),
    ],
    ids=lambda value: "content" if isinstance(value, bytes) else None,
)
def test_one_sentence_for_a_file_that_is_damaged_or_another(
    name: str, file: str, content: bytes, words: list[str], tmp_path: Path
) -> None:
    put(name, tmp_path, plain=not file.endswith(".gz") and "py" not in file)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load(name, root=tmp_path)
    text = str(error.value)
    assert len(text.splitlines()) == 1 and str(tmp_path) in text and all(word in text for word in words), text
    assert not Path("evil").exists()


# --- sizes that can't be true -----------------------------------------------------------------------------------------


def header(count: int) -> bytes:
    return b"\x00\x00\x08\x03" + struct.pack(">3I", count, 28, 28)


def test_what_an_idx_file_says_of_its_size_is_compared_with_what_it_holds(tmp_path: Path) -> None:
    most = header(2**32 - 1)
    for content in (most, gzip.compress(most)):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(ConfigError, match="announces 3,367,254,359,280 pixels and holds far fewer"):
            read_idx(tmp_path / "x", (1, 28, 28))


def test_what_is_packed_beyond_the_images_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(gzip.compress(idx(GREY) + bytes(2**25)))
    asked: list[int] = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: asked.append(size) or read(self, size))
    with pytest.raises(ConfigError, match="holds 81,216 or more"):
        read_idx(tmp_path / "x", (1, 28, 28))
    assert min(asked) >= 0 and sum(asked) < 2**18


def test_what_an_array_says_of_its_size_is_compared_with_what_it_holds(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", GREY)
    assert torch.equal(read_array(tmp_path / "x.npy", (1, 28, 28)), torch.from_numpy(GREY))
    content = (tmp_path / "x.npy").read_bytes()
    for old, new in (
        (b"(20, ", b"(99999999999, "),
        (b"'|u1'", b"'|V0'"),
        (b"'|u1'", b"'|O'"),
        (b"\x93NUMPY", b"PK\x03\x04  "),
    ):
        (tmp_path / "x.npy").write_bytes(content.replace(old, new, 1))
        with pytest.raises(ConfigError, match=r"is not a \.npy file of images, or damaged"):
            read_array(tmp_path / "x.npy", (1, 28, 28))


def test_what_a_matlab_file_says_of_its_size_is_compared_with_what_it_holds(tmp_path: Path) -> None:
    content = mat(X=COLOUR[:3].transpose(2, 3, 1, 0))
    place = content.index(struct.pack("<4i", 32, 32, 3, 3))
    (tmp_path / "x.mat").write_bytes(content[: place + 12] + struct.pack("<i", 2**30) + content[place + 16 :])
    with pytest.raises(ConfigError, match="far larger than the file"):
        read_mat(tmp_path / "x.mat", (3, 32, 32))


def test_too_little_memory_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    (tmp_path / "x").write_bytes(idx(GREY))
    monkeypatch.setattr(files, "as_images", full)
    with pytest.raises(ConfigError, match="x can't be read: its images do not fit into memory"):
        read_idx(tmp_path / "x", (1, 28, 28))


@pytest.mark.parametrize("read", [read_array, read_batch, read_idx, read_mat, read_records])
def test_what_is_no_file_keeps_nobody_waiting(read: Callable[..., torch.Tensor], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    with pytest.raises(ConfigError, match="what is there is a pipe"):
        read(tmp_path / "x", (3, 32, 32))
