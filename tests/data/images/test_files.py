"""The original files of images: what is in them is read, or one sentence says what is wrong with them."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

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
