"""The tables that come with scikit-learn: what it gives, without what is to be predicted, in three splits."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from cifrun.config.schema import check
from cifrun.data.checks import check_data
from cifrun.data.tables.base import File
from cifrun.data.tables.bundled import Bundled
from cifrun.errors import ConfigError
from cifrun.registry import DATASETS

NAMES = [name for name in DATASETS if issubclass(DATASETS[name], Bundled)]


@pytest.mark.parametrize("name", NAMES)
def test_rows_and_names_are_those_of_scikit_learn(name: str) -> None:
    data = check_data(check(DATASETS[name], {"name": name}).load(), name)
    made: Any = getattr(import_module("sklearn.datasets"), f"load_{name}")()
    kept = [k for k, column in enumerate(made.feature_names) if column in data.columns]
    assert data.shape == (len(kept),) and len(kept) >= len(made.feature_names) - 1
    splits = [np.asarray(x) for x in (data.train, data.valid, data.test)]
    together = np.concatenate(splits)
    whole = made.data[:, kept].astype(np.float32)
    assert np.array_equal(together[np.lexsort(together.T)], whole[np.lexsort(whole.T)])
    assert len(splits[1]) == len(splits[2]) == len(whole) // 10


def test_without_scikit_learn_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ConfigError, match="dataset 'iris' needs scikit-learn, which is not installed: pip install"):
        check(DATASETS["iris"], {"name": "iris"}).load()
    assert not issubclass(File, Bundled)
