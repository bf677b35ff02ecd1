"""The numbers of a pickled data frame or dictionary, without running what a pickle may hold.

A pickle is a programme. Here it may build NumPy arrays and nothing else: every other class that it names becomes a
`_Record`, which notes what it was given. A frame's columns are then read off those notes, in the layout that pandas has
written since its version 0.14.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError

__all__ = ["read_frame", "read_pickled"]


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


def _record(_: Any, *arguments: Any) -> _Record:
    """In place of functions that are given a class and what to build it from."""
    return _Record(*arguments)


#: NumPy's functions, wherever this version of NumPy keeps them, by their names in a pickle.
_NUMPY: dict[str, Any] = {
    "_reconstruct": np.empty(1).__reduce__()[0],
    "scalar": np.float64(0).__reduce__()[0],
    "ndarray": np.ndarray,
    "dtype": np.dtype,
}


#: What else frames are made of, by the names of Python 2 and 3.
_PYTHON: dict[tuple[str, str], Any] = {
    ("builtins", "slice"): slice,
    ("__builtin__", "slice"): slice,
    ("builtins", "object"): object,
    ("__builtin__", "object"): object,
    ("copyreg", "_reconstructor"): lambda *_: _Record(),
    ("copy_reg", "_reconstructor"): lambda *_: _Record(),
    ("_codecs", "encode"): lambda text, _: text.encode("latin1"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        package = module.partition(".")[0]
        if package == "numpy" and name in _NUMPY:
            return _NUMPY[name]
        if package == "pandas":
            return _record if name == "_new_Index" else _Record
        if (module, name) in _PYTHON:
            return _PYTHON[module, name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def read_pickled(path: Path) -> Any:
    """What is pickled in a file: numbers, texts, containers and NumPy arrays; of all else, notes.

    Raises:
        pickle.UnpicklingError: It names anything else. A damaged pickle may raise other errors too.
    """
    with open(path, "rb") as stream:
        return _Unpickler(stream, encoding="latin1").load()


def read_frame(path: Path) -> tuple[list[str], np.ndarray]:
    """The names of a frame's columns and its numbers, (rows, columns), float64.

    Raises:
        ConfigError: The file holds anything but a data frame of numbers.
    """
    try:
        frame = read_pickled(path)
        manager = frame.state.get("_mgr", frame.state.get("_data"))
        layout = manager.state[3]["0.14.1"]
        names = [str(name) for name in layout["axes"][0].arguments[0]["data"]]
        rows = len(np.asarray(layout["blocks"][0]["values"])[0])
        numbers = np.full((rows, len(names)), np.nan)  # what no block fills is not finite, and refused as that
        for block in layout["blocks"]:
            numbers[:, block["mgr_locs"]] = np.asarray(block["values"], dtype=np.float64).T
        return names, numbers
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a pickle can be wrong in every way there is
        raise ConfigError(f"{path} is not a pickled table of numbers: {type(error).__name__}: {error}") from error
