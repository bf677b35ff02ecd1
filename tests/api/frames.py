"""A stand-in for a data frame."""

from __future__ import annotations

import numpy as np


class Frame:
    """What a data frame is to the model: names, columns by name, and numbers."""

    def __init__(self, columns: dict[str, list[float]]) -> None:
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, names: list[str]) -> Frame:
        return Frame({name: self._columns[name] for name in names})

    def to_numpy(self) -> np.ndarray:
        return np.array(list(self._columns.values())).T
