"""The files in which the image benchmarks were published, each read as uint8, (N, C, H, W).

A file that is cut off, damaged or of another kind is a `ConfigError` whose sentence names it.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError
from ..tables.pickled import read_pickled

__all__ = ["read_array", "read_batch", "read_idx", "read_mat", "read_records"]

#: An IDX file begins with this and its number of dimensions: two zeros, and the code of unsigned bytes.
IDX_BYTES = b"\x00\x00\x08"
GZIP = b"\x1f\x8b"


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    """Inside, whatever goes wrong becomes a sentence: damaged files make the libraries raise all there is to raise."""
    try:
        yield
    except (MemoryError, ConfigError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{path} is not {kind}, or damaged: {reason}") from error


def _images(array: np.ndarray, shape: Sequence[int]) -> Tensor:
    """As (N, *shape), with memory of its own.

    Raises:
        ValueError: A number is no byte.
    """
    if array.dtype != np.uint8:
        raise ValueError(f"it holds numbers of type {array.dtype}, where images are of uint8")
    return torch.from_numpy(np.array(array).reshape(-1, *shape))


def read_idx(path: Path, shape: Sequence[int]) -> Tensor:
    """MNIST and its kin: an IDX file of unsigned bytes, gzipped or not, (N, H, W), row by row; `shape` is (1, H, W).

    Raises:
        ConfigError: It is no such file, or damaged.
    """
    with _reading(path, "an IDX file of images"):
        content = path.read_bytes()
        if content.startswith(GZIP):
            try:
                content = gzip.decompress(content)
            except (EOFError, zlib.error) as error:
                raise ValueError(f"its compressed data are cut off or damaged ({error})") from error
        if content[:3] != IDX_BYTES:
            raise ValueError(f"it begins with the bytes {content[:4].hex(' ')}, and not with 00 00 08 03")
        count = content[3]
        sizes = [int(size) for size in np.frombuffer(content, ">u4", min(count, (len(content) - 4) // 4), 4)]
        if len(sizes) < count or count != 3 or tuple(sizes[1:]) != tuple(shape[1:]):
            expected = " × ".join(map(str, shape[1:]))
            raise ValueError(f"its sizes are {' × '.join(map(str, sizes))}, where they should be N × {expected}")
        start, size = 4 + 4 * count, math.prod(sizes)
        if len(content) != start + size:
            raise ValueError(f"it announces {size:,} pixels and holds {len(content) - start:,}")
        return _images(np.frombuffer(content, np.uint8, offset=start), shape)


def read_batch(path: Path, shape: Sequence[int]) -> Tensor:
    """CIFAR-10: the array "data", (N, C·H·W), of a pickled dictionary; nothing that the pickle may hold is run.

    Raises:
        ConfigError: It is no such file, or damaged.
    """
    with _reading(path, "a pickled batch of images"):
        batch = read_pickled(path)
        data = batch.get("data") if isinstance(batch, dict) else None
        if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != math.prod(shape):
            raise ValueError(f"it has no array 'data' of N × {math.prod(shape)} bytes")
        return _images(data, shape)


def read_records(path: Path, shape: Sequence[int]) -> Tensor:
    """CIFAR-10's binary version: records of a label's byte and C·H·W bytes, one after the other.

    Raises:
        ConfigError: It is no such file, or damaged.
    """
    with _reading(path, "a batch of images"):
        content = np.fromfile(path, np.uint8)
        if len(content) == 0 or len(content) % (1 + math.prod(shape)):
            raise ValueError(
                f"its {len(content):,} bytes are no multiple of {1 + math.prod(shape):,}, those of an image"
            )
        return _images(content.reshape(-1, 1 + math.prod(shape))[:, 1:], shape)


def read_mat(path: Path, shape: Sequence[int]) -> Tensor:
    """SVHN: the array "X", (H, W, C, N), of a MATLAB file.

    Raises:
        ConfigError: It is no such file, or damaged.
    """
    from scipy.io import loadmat

    with _reading(path, "a MATLAB file of images"):
        data = loadmat(path, variable_names=["X"]).get("X")
        channels, *area = shape
        if not isinstance(data, np.ndarray) or data.ndim != 4 or data.shape[:3] != (*area, channels):
            raise ValueError(f"it has no array 'X' of {area[0]} × {area[1]} × {channels} × N")
        return _images(data.transpose(3, 2, 0, 1), shape)


def read_array(path: Path, shape: Sequence[int]) -> Tensor:
    """A NumPy array of whole numbers, (N, *shape), as `cifrun sample` writes it.

    Raises:
        ConfigError: It is no such file, or damaged.
    """
    with _reading(path, "a .npy file of images"):
        data = np.load(path, allow_pickle=False)
        if not isinstance(data, np.ndarray) or data.shape[1:] != tuple(shape) or len(data) == 0:
            sizes = " × ".join(map(str, np.shape(data)))
            raise ValueError(f"its sizes are {sizes}, where they should be N × {' × '.join(map(str, shape))}")
        return _images(data, shape)
