"""NumPy's array in a file, npy: what the file says of it, compared with the bytes that it holds; and the array, mapped.

NumPy's own reader takes memory for what the file says first.
"""

from __future__ import annotations

import ast
import math
from operator import index
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

__all__ = ["DEFLATED", "Described", "describe"]

#: The first bytes of an npy file, and signs of its description at most: NumPy's own bound.
MAGIC, HEADER = b"\x93NUMPY", 10_000
#: A file compressed with deflate holds at most so many times its bytes.
DEFLATED = 1040


class Described(NamedTuple):
    """What a file says of an array: shape, order and type; and where its numbers begin."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int

    def map(self, stream: Any) -> np.ndarray:
        """The array, which stays in the file; that may be closed afterwards."""
        order: Any = "F" if self.fortran else "C"
        return np.asarray(np.memmap(stream, self.dtype, "r", self.start, self.shape, order))


def describe(stream: IO[bytes], size: int) -> Described:
    """What an npy file of `size` bytes says of its array.

    Raises:
        ValueError: It is no such file, or not of the size that it should have.
    """
    head = stream.read(len(MAGIC) + 2)
    if len(head) < len(MAGIC) + 2 or not head.startswith(MAGIC):
        raise ValueError("another format")
    length = int.from_bytes(stream.read(2 if head[-2] == 1 else 4), "little")
    if head[-2] not in (1, 2, 3) or length > HEADER:
        raise ValueError("a later version of its format")
    try:
        told = ast.literal_eval(stream.read(length).decode("utf-8" if head[-2] == 3 else "latin1").strip())
        dtype, shape, fortran = (
            npy.descr_to_dtype(told["descr"]),
            tuple(map(index, told["shape"])),
            told["fortran_order"],
        )
    except (ValueError, SyntaxError, TypeError, KeyError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"its description can't be read: {error}") from error
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    start = stream.tell()
    if any(count < 0 for count in shape) or start + math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"it should hold {' × '.join(map(str, shape))} numbers, and is shorter")
    return Described(shape, fortran, dtype, start)
