"""New draws for every batch: a function of seed and step, all of them different, and of the target."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cifrun.compute import memory
from cifrun.config.schema import Config, TrainerConfig, to_dict
from cifrun.data.loader import Loader
from cifrun.data.order.fresh import Fresh
from cifrun.errors import ConfigError
from cifrun.registry import DATASETS
from cifrun.runs.directory import RunDirectory
from cifrun.training.loop import train
from tests.helpers import small_config

MOONS = DATASETS["two_moons"]


def fresh(seed: int = 0, size: int = 50) -> Fresh:
    return Fresh(MOONS(name="two_moons").sample, size, seed)


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    for step in (0, 7, 10**6):
        first, again, other = fresh(), fresh(), fresh(1)
        rows = first.indices(step)
        assert torch.equal(first[rows], again[rows]) and not torch.equal(first[rows], other[rows])
        assert first[rows].dtype == torch.float32


def test_parts_of_a_batch_are_its_rows() -> None:
    whole, parts = fresh(), fresh()
    rows = whole.indices(3)
    assert torch.equal(whole[rows], torch.cat([parts[part] for part in rows.split(7)]))
    assert torch.equal(whole[rows[[4, 1, 1]]], whole[rows][[4, 1, 1]])
    assert whole[rows[:0]].shape == (0, 2)


def test_no_two_batches_are_the_same() -> None:
    source = fresh()
    x = torch.cat([source[source.indices(step)] for step in range(100)])
    assert len(x.unique(dim=0)) == len(x)


def test_the_loader_draws_and_what_stands_for_the_training_set_is_other_data() -> None:
    data = MOONS(name="two_moons", num_train="fresh", seed=5).load()
    loader = Loader(data, TrainerConfig(batch_size=100), 0, torch.device("cpu"))
    x = torch.cat([loader.events(loader.fetch(loader.indices(step))) for step in range(3)])
    assert x.shape == (300, 2) and len(torch.cat([x, data.train, data.valid]).unique(dim=0)) == 300 + 10_000 + 1_000


def test_a_run_of_fresh_draws_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def make(steps: int) -> Config:
        pace = {"valid_every": 50, "plot_every": 0, "progress": False, "micro_batches": 2}
        few = {"importance_samples": 2, "valid_importance_samples": 2}
        config = small_config("maf", True, eval=few, trainer={"max_steps": steps, "batch_size": 64, **pace})
        settings = to_dict(config)
        settings["dataset"]["num_train"] = "fresh"
        return Config.parse(settings)

    train(make(6), tmp_path / "whole")
    train(make(3), tmp_path / "parts")
    train(make(6), tmp_path / "parts", resume=True)
    a, b = (RunDirectory(tmp_path / name).load_checkpoint("latest").tensors for name in ("whole", "parts"))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_word_that_is_none_is_a_sentence() -> None:
    settings = to_dict(small_config("maf", True))
    settings["dataset"]["num_train"] = "new"
    with pytest.raises(ConfigError, match=r"dataset\.num_train = 'new'.*fresh"):
        Config.parse(settings)


def test_a_batch_beyond_memory_is_refused_before_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_meminfo", lambda _: 2**30)
    data = MOONS(name="two_moons", num_train="fresh").load()
    with pytest.raises(ConfigError, match=r"trainer\.batch_size = 1000000000 new data a step would take 7 GiB"):
        Loader(data, TrainerConfig(batch_size=10**9), 0, torch.device("cpu"))
