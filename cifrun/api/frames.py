"""What a user hands over as data, as numbers: data frames by the names of their columns, lists, arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..io.table_files import numbered

__all__ = ["names_of", "numbers", "of_frame"]


def names_of(frame: Any) -> tuple[str, ...]:
    """The names of a data frame's columns.

    Raises:
        ValueError: Two are the same.
    """
    names = tuple(map(str, frame.columns))
    if len(set(names)) < len(names):
        raise ValueError(f"the data frame has two columns of one name: {', '.join(names)}")
    return names


def of_frame(frame: Any, columns: Sequence[str], called: str) -> np.ndarray:
    """The columns of a data frame that a model was trained on, or one row of it; all of them if it knows no names.

    Arguments:
        columns: Those of the model; none if it knows none.
        called: What to call the frame in an error.

    Raises:
        ValueError: A column is missing, or holds what is no number.
    """
    if hasattr(frame, "columns"):
        names = names_of(frame)
        nameless = tuple(columns) == tuple(numbered(len(columns))) and len(names) == len(columns)
        if columns and not (nameless and not set(columns) <= set(names)):
            if missing := [name for name in columns if name not in names]:
                raise ValueError(
                    f"the data frame lacks the columns {', '.join(missing)}, which the model was trained on"
                )
            frame = frame[[frame.columns[names.index(name)] for name in columns]]
        try:
            return numbers(frame.to_numpy(), called)
        except ValueError:
            if (wrong := _no_number(frame)) is None:
                raise
            raise ValueError(f"{called} holds what is no number: {wrong}") from None
    labels = list(map(str, getattr(frame, "index", ())))
    values = numbers(frame.to_numpy(), called)
    if columns and set(columns) <= set(labels):
        values = values[[labels.index(name) for name in columns]]
    return values


def _no_number(frame: Any) -> str | None:
    """The first value of a data frame that is no number, and its column; None if there is none."""
    for name in frame.columns:
        for row, value in enumerate(frame[[name]].to_numpy().ravel()):
            try:
                float(value)
            except (TypeError, ValueError):
                return f"{value!s} in row {row + 1} of column '{name}'"
    return None


def numbers(x: Any, called: str) -> np.ndarray:
    """Numbers as torch takes them.

    Raises:
        ValueError: They are none.
    """
    try:
        values = np.array(x, order="C")
        if values.dtype.kind not in "biufc":
            values = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{called} holds what is no number: {' '.join(str(error).split())}") from None
    return values.astype(values.dtype.newbyteorder("="))
