"""The files in which the image benchmarks were published, each read as uint8, (N, C, H, W).

A file that is cut off, damaged or of another kind is a `ConfigError` whose sentence names it. What it says of its size
is compared with what it holds before memory is taken for it.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError
from ..npy import DEFLATED, describe
from ..regular import open_regular
from ..tables.pickled import array_of, read_pickled

__all__ = ["as_images", "read_array", "read_batch", "read_idx", "read_mat", "read_records", "reading"]

#: An IDX file begins with this and its number of dimensions: two zeros, and the code of unsigned bytes.
IDX_BYTES = b"\x00\x00\x08"
GZIP = b"\x1f\x8b"
#: Bytes behind the end of a file that are counted.
BLOCK = 2**16


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Inside, whatever goes wrong becomes a sentence: damaged files make the libraries raise all there is to raise."""
    try:
        yield
    except ConfigError:
        raise
    except MemoryError as error:
        raise ConfigError(f"{path} can't be read: its images do not fit into memory") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{path} is not {kind}, or damaged: {reason}") from error


def as_images(array: np.ndarray, shape: Sequence[int]) -> Tensor:
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
    with reading(path, "an IDX file of images"):
        with open_regular(path) as file:
            size = path.stat().st_size
            packed = file.read(len(GZIP)) == GZIP
            file.seek(0)
            try:
                with gzip.GzipFile(fileobj=file) if packed else file as stream:
                    pixels = _idx_pixels(stream, size * (DEFLATED if packed else 1), shape)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(f"its compressed data are cut off or damaged ({error})") from error
        return as_images(np.frombuffer(pixels, np.uint8), shape)


def _idx_pixels(stream: Any, most: int, shape: Sequence[int]) -> bytes:
    """The pixels of an IDX file that holds at most so many bytes."""
    head = stream.read(4)
    if head[:3] != IDX_BYTES:
        raise ValueError(f"it begins with the bytes {head.hex(' ')}, and not with 00 00 08 03")
    count = head[3]
    lengths = stream.read(4 * min(count, 3))
    sizes = [int(size) for size in np.frombuffer(lengths, ">u4", len(lengths) // 4)]
    if len(sizes) < count or count != 3 or tuple(sizes[1:]) != tuple(shape[1:]):
        expected = " × ".join(map(str, shape[1:]))
        raise ValueError(f"its sizes are {' × '.join(map(str, sizes))}, where they should be N × {expected}")
    size = math.prod(sizes)
    pixels = b"" if size > most else stream.read(size)
    if size > most or len(pixels) < size:
        found = "far fewer" if size > most else f"{len(pixels):,}"
        raise ValueError(f"it announces {size:,} pixels and holds {found}")
    more = len(stream.read(BLOCK))
    if more:
        raise ValueError(f"it announces {size:,} pixels and holds {size + more:,}{' or more' if more == BLOCK else ''}")
    return pixels


def read_batch(path: Path, shape: Sequence[int]) -> Tensor:
    """CIFAR-10: the array "data", (N, C·H·W), of a pickled dictionary; nothing that the pickle may hold is run.

    Raises:
        ConfigError: It is no such file, or damaged.
    """
    with reading(path, "a pickled batch of images"):
        batch = read_pickled(path)
        data = array_of(batch["data"]) if isinstance(batch, dict) and "data" in batch else None
        if data is None or data.ndim != 2 or data.shape[1] != math.prod(shape):
            raise ValueError(f"it has no array 'data' of N × {math.prod(shape)} bytes")
        return as_images(data, shape)


def read_records(path: Path, shape: Sequence[int]) -> Tensor:
    """CIFAR-10's binary version: records of a label's byte and C·H·W bytes, one after the other.

    Raises:
        ConfigError: It is no such file, or damaged.
    """
    with reading(path, "a batch of images"):
        with open_regular(path) as stream:
            content = np.frombuffer(stream.read(), np.uint8)
        if len(content) == 0 or len(content) % (1 + math.prod(shape)):
            raise ValueError(
                f"its {len(content):,} bytes are no multiple of {1 + math.prod(shape):,}, those of an image"
            )
        return as_images(content.reshape(-1, 1 + math.prod(shape))[:, 1:], shape)


def read_mat(path: Path, shape: Sequence[int]) -> Tensor:
    """SVHN: the array "X", (H, W, C, N), of a MATLAB file.

    Raises:
        ConfigError: It is no such file, or damaged.
    """
    from scipy.io import loadmat, whosmat

    with reading(path, "a MATLAB file of images"), open_regular(path) as stream:
        size, channels, area = path.stat().st_size, shape[0], shape[1:]
        if any(name == "X" and math.prod(sizes) > size * DEFLATED for name, sizes, _ in whosmat(stream)):
            raise ValueError("it says that its array 'X' is far larger than the file")
        stream.seek(0)
        data = loadmat(stream, variable_names=["X"]).get("X")
        if not isinstance(data, np.ndarray) or data.ndim != 4 or data.shape[:3] != (*area, channels):
            raise ValueError(f"it has no array 'X' of {area[0]} × {area[1]} × {channels} × N")
        return as_images(data.transpose(3, 2, 0, 1), shape)


def read_array(path: Path, shape: Sequence[int], turned: bool = False) -> Tensor:
    """A NumPy array of whole numbers, (N, *shape), as `cifrun sample` writes it; if `turned`, with channels last, too.

    Raises:
        ConfigError: It is no such file, or damaged.
    """
    channels, *area = shape
    with reading(path, "a .npy file of images"), open_regular(path) as stream:
        told = describe(stream, path.stat().st_size)
        last = turned and (told.shape[1:] == (*area, channels) or (channels == 1 and told.shape[1:] == tuple(area)))
        if told.shape[0] == 0 or not (last or told.shape[1:] == tuple(shape)):
            sizes = " × ".join(map(str, told.shape))
            raise ValueError(f"its sizes are {sizes}, where they should be N × {' × '.join(map(str, shape))}")
        if told.dtype.itemsize == 0:
            raise ValueError(f"it holds {told.dtype}")
        array = told.map(stream)
        return as_images(array.reshape(-1, *area, channels).transpose(0, 3, 1, 2) if last else array, shape)
