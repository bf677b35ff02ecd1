"""What is registered without a YAML file can be chosen as well: its config is made of its fields."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from cifrun.cli.hydra_app import configure
from cifrun.cli.plugin_configs import defaults
from cifrun.config.fields import registered, setting
from cifrun.data.base import Data, DatasetConfig, Target
from cifrun.errors import ConfigError
from cifrun.registry import DATASETS


@pytest.fixture
def bare() -> Iterator[None]:
    """A dataset without YAML: a needed setting, one with a default, and a seed."""

    @registered(DATASETS, "bare")
    class Bare(DatasetConfig):
        """Normal numbers."""

        rows: int = setting(..., "how many", ge=2)
        shift: float = setting(1.0, "is added")
        seed: int = setting(0, "of the draws", ge=0)

        def load(self) -> Data:
            x = self.shift + torch.randn(self.rows, 2, generator=torch.Generator().manual_seed(self.seed))
            return Data(x, x, x)

    yield
    del DATASETS._entries["bare"], DATASETS._values["bare"]


def test_defaults_are_what_yaml_would_hold() -> None:
    held = defaults(Target)
    assert held["seed"] == "${seed}" and held["num_train"] == 10_000 and held["standardize"] is True
    assert defaults(int) == {}


def test_a_dataset_without_yaml_is_chosen_by_its_name(bare: None) -> None:
    config = configure(["dataset=bare", "dataset.rows=5", "seed=7"])
    assert (config.dataset.name, config.dataset.rows) == ("bare", 5)  # type: ignore[attr-defined]
    assert config.dataset.seed == 7, "the data follow the seed of the run"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"dataset\.rows"):
        configure(["dataset=bare"])
