"""Small image sets in the formats of the real ones."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from cifrun.config.schema import check
from cifrun.data.base import Data
from cifrun.data.checks import check_data
from cifrun.data.images.base import PublishedImages
from cifrun.registry import DATASETS

from .archive import archive

#: Training and test images of each.
SIZES = {"mnist": (20, 10), "fashion_mnist": (20, 10), "cifar10": (20, 4), "svhn": (20, 10)}


def images(name: str) -> tuple[np.ndarray, np.ndarray]:
    """What the files hold: uint8, (N, C, H, W)."""
    draw = np.random.default_rng(len(name))
    shape = (1, 28, 28) if name.endswith("mnist") else (3, 32, 32)
    train, test = (draw.integers(0, 256, (n, *shape), np.uint8) for n in SIZES[name])
    return train, test


def idx(x: np.ndarray) -> bytes:
    return b"\x00\x00\x08\x03" + struct.pack(">3I", len(x), 28, 28) + x.tobytes()


def batch(x: np.ndarray) -> bytes:
    """A batch of CIFAR-10's, as Python 2 pickled it."""
    names = [f"{k}.png" for k in range(len(x))]
    return pickle.dumps(
        {"batch_label": "x", "labels": [1] * len(x), "data": x.reshape(len(x), -1), "filenames": names}, 2
    )


def records(x: np.ndarray) -> bytes:
    return np.concatenate([np.full((len(x), 1), 7, np.uint8), x.reshape(len(x), -1)], 1).tobytes()


def cifar(binary: bool = False) -> dict[str, bytes]:
    train, test = images("cifar10")
    folder, end, form = ("cifar-10-batches-bin", ".bin", records) if binary else ("cifar-10-batches-py", "", batch)
    parts = {f"{folder}/data_batch_{k + 1}{end}": form(part) for k, part in enumerate(np.split(train, 5))}
    return {**parts, f"{folder}/test_batch{end}": form(test)}


def cifar_archive() -> bytes:
    return archive(cifar(), top="")


def put(name: str, root: Path, plain: bool = False) -> None:
    """Write the files of a set into `root`; plain: those of MNIST uncompressed, of CIFAR-10 the binary ones."""
    root.mkdir(parents=True, exist_ok=True)
    train, test = images(name)
    if name == "cifar10":
        for file, content in cifar(plain).items():
            (root / file).parent.mkdir(exist_ok=True)
            (root / file).write_bytes(content)
    for part, x in (("train", train), ("test", test)):
        if name == "svhn":
            labels = np.ones((len(x), 1), np.uint8)
            savemat(root / f"{part}_32x32.mat", {"X": x.transpose(2, 3, 1, 0), "y": labels}, do_compression=True)
        elif name.endswith("mnist"):
            file = f"{'train' if part == 'train' else 't10k'}-images-idx3-ubyte"
            content = idx(x)
            (root / (file if plain else f"{file}.gz")).write_bytes(content if plain else gzip.compress(content))


NAMES = [name for name in DATASETS if issubclass(DATASETS[name], PublishedImages)]


def load(name: str, **settings: Any) -> Data:
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in settings.items()}
    return check_data(check(DATASETS[name], {"name": name, **settings}).load(), name)
