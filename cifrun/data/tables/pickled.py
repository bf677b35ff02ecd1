"""The numbers of a pickled data frame or dictionary, without running what a pickle may hold.

A pickle is a programme. Here it may build containers, texts and numbers. All that it wants to build else, NumPy's
arrays among them, becomes a note of what it was given: NumPy's own functions believe what they are told of sizes and
types, and would read memory that is none of the file's. An array is then made of its bytes, if its note is of plain
numbers and of the right size. A frame's columns are read off the notes, in the layout that pandas has written since its
version 0.14.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError
from ..regular import open_regular

__all__ = ["array_of", "read_frame", "read_pickled"]

#: Types of numbers: letter and bytes. Floats, whole numbers, booleans.
_PLAIN = re.compile(r"f[248]|[iu][1248]|b1|\?")
#: What names things that are elsewhere, and so nothing that a file of numbers needs.
_ELSEWHERE = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}


class _Record:
    """An object that the pickle wanted to build: how, and with what state."""

    arguments: tuple[Any, ...]
    state: Any = None

    def __new__(cls, *arguments: Any) -> _Record:  # a pickle may go round __init__
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Type(_Record):
    """A NumPy type."""


class _Array(_Record):
    """A NumPy array, or one number of a type."""


class _Function:
    """A function that a pickle may call, and not change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


def _refuse(*_: Any) -> Any:
    raise pickle.UnpicklingError("it makes an array of nothing")


def _frombuffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    made = _Array()
    made.state = (1, shape, dtype, order == "F", content)
    return made


def _scalar(dtype: Any, content: Any = b"") -> _Array:
    made = _Array()
    made.state = (1, (), dtype, False, content)
    return made


#: NumPy's functions, wherever a version of NumPy keeps them, by their names in a pickle.
_NUMPY: dict[str, Any] = {
    "_reconstruct": _Function(lambda *_: _Array()),
    "_frombuffer": _Function(_frombuffer),
    "scalar": _Function(_scalar),
    "ndarray": _Function(_refuse),
    "dtype": _Type,
}

#: What else frames are made of, by the names of Python 2 and 3.
_PYTHON: dict[tuple[str, str], Any] = {
    ("builtins", "slice"): slice,
    ("__builtin__", "slice"): slice,
    ("builtins", "object"): object,
    ("__builtin__", "object"): object,
    ("builtins", "bytearray"): _Function(lambda content=b"": _bytes(content)),
    ("copyreg", "_reconstructor"): _Function(lambda *_: _Record()),
    ("copy_reg", "_reconstructor"): _Function(lambda *_: _Record()),
    ("_codecs", "encode"): _Function(lambda text, _: str(text).encode("latin1")),
}


def _bytes(content: Any) -> bytes:
    if not isinstance(content, bytes):
        raise pickle.UnpicklingError("it makes bytes of something else")
    return content


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        package = module.partition(".")[0]
        if package == "numpy" and name in _NUMPY:
            return _NUMPY[name]
        if package == "pandas":
            return _Function(lambda _, *given: _Record(*given)) if name == "_new_Index" else _Record
        if (module, name) in _PYTHON:
            return _PYTHON[module, name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def read_pickled(path: Path) -> Any:
    """What is pickled in a file: numbers, texts and containers; of all else, notes, of which `array_of` makes arrays.

    Raises:
        pickle.UnpicklingError: It names anything else. A damaged pickle may raise other errors too.
    """
    with open_regular(path) as stream:
        content = stream.read()
    _look_over(content)
    return _Unpickler(io.BytesIO(content), encoding="latin1").load()


def _look_over(content: bytes) -> None:
    """Refuse a pickle that is cut off, or says of anything that it is larger than the file."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(content))):
        if opcode.name in _ELSEWHERE:
            raise pickle.UnpicklingError("it names what is not in the file")
        if (
            opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= count
        ):  # memory for all before it
            raise pickle.UnpicklingError("it numbers more than it holds")


def array_of(note: Any) -> np.ndarray:
    """The array that a note of `read_pickled` tells of, made of its bytes.

    Raises:
        ValueError: It is none of plain numbers, or of another size than its bytes.
    """
    if not isinstance(note, _Array) or not isinstance(note.state, tuple) or len(note.state) != 5:
        raise ValueError(f"it holds {type(note).__name__} where an array should be")
    _, shape, kind, fortran, content = note.state
    dtype = _plain(kind)
    if dtype is None:
        raise ValueError("it holds an array of something else than plain numbers")
    content = content.encode("latin1") if isinstance(content, str) else content
    lengths = shape if isinstance(shape, tuple) else (shape,)
    if not all(type(length) is int and length >= 0 for length in lengths) or not isinstance(content, bytes | bytearray):
        raise ValueError("it holds a damaged array")
    if math.prod(lengths) * dtype.itemsize != len(content):
        raise ValueError(f"it holds an array of shape {shape} in {len(content):,} bytes")
    return np.frombuffer(content, dtype).reshape(lengths, order="F" if fortran is True or fortran == 1 else "C")


def _plain(kind: Any) -> np.dtype[Any] | None:
    """The type of plain numbers that a note tells of; None if it is another one."""
    if not isinstance(kind, _Type) or not kind.arguments:
        return None
    code, state = kind.arguments[0], kind.state
    code = code.decode("latin1") if isinstance(code, bytes) else code
    if not isinstance(code, str) or not _PLAIN.fullmatch(code):
        return None
    order = "="
    if state is not None:
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            return None
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
    return np.dtype(f"{order}{code}" if code != "?" else code) if order in ("<", ">", "|", "=") else None


def _texts(note: Any) -> list[str]:
    """The names that a note tells of: an array of objects that are texts, or a list of them."""
    content = note.state[4] if isinstance(note, _Array) and isinstance(note.state, tuple) else note
    if isinstance(content, list | tuple) and all(isinstance(name, str | bytes | int) for name in content):
        return [name.decode("latin1") if isinstance(name, bytes) else str(name) for name in content]
    return [str(name) for name in array_of(note).tolist()]


def read_frame(path: Path) -> tuple[list[str], np.ndarray]:
    """The names of a frame's columns and its numbers, (rows, columns), float64.

    Raises:
        ConfigError: The file holds anything but a data frame of numbers.
    """
    try:
        frame = read_pickled(path)
        manager = frame.state.get("_mgr", frame.state.get("_data"))
        layout = manager.state[3]["0.14.1"]
        names = _texts(layout["axes"][0].arguments[0]["data"])
        blocks = [array_of(block["values"]) for block in layout["blocks"]]
        rows = blocks[0].shape[1]
        if any(block.ndim != 2 for block in blocks) or sum(block.size for block in blocks) != rows * len(names):
            raise ValueError("its columns are not all of numbers")
        numbers = np.full((rows, len(names)), np.nan)  # what no block fills is not finite, and refused as that
        for block, values in zip(layout["blocks"], blocks, strict=True):
            places = block["mgr_locs"]
            places = places if isinstance(places, slice) else array_of(places)
            numbers[:, places] = np.asarray(values, dtype=np.float64).T
        return names, numbers
    except OSError:
        raise
    except ConfigError:
        raise
    except Exception as error:  # a pickle can be wrong in every way there is
        raise ConfigError(f"{path} is not a pickled table of numbers: {type(error).__name__}: {error}") from error
