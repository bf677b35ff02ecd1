"""Data of any scale: training works and keeps the data's units, or one sentence says why it can't."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from cifrun.bijections.preprocess.standardize import Standardize
from cifrun.build import build_data, build_model, build_standardize, describe, load_model
from cifrun.cif.model import Model
from cifrun.config.fields import STRICT, setting
from cifrun.config.schema import Config, to_dict
from cifrun.data.base import Data, DatasetConfig, Target
from cifrun.errors import ConfigError
from cifrun.evaluation.evaluate import evaluate_split
from cifrun.registry import DATASETS
from cifrun.runs.directory import RunDirectory
from cifrun.training.loop import train
from tests.helpers import small_config, train_a_little, without_pictures


@dataclass(config=STRICT)
class Plain(DatasetConfig):
    """Two clusters in D dimensions, scaled and shifted, with one entry that may be overwritten."""

    scale: float = setting(1.0, "multiplies every number", gt=0)
    shift: float = setting(0.0, "is added to every number")
    dim: int = setting(2, "D", ge=1)
    num_train: int = setting(400, "training points", ge=0)
    num_valid: int = setting(50, "validation points", ge=0)
    num_test: int = setting(50, "test points", ge=0)
    spoil: str = setting("", "what is wrong with the data")

    def load(self) -> Data:
        generator = torch.Generator().manual_seed(0)

        def draw(n: int) -> Tensor:
            x = torch.randn(n, self.dim, generator=generator, dtype=torch.float64)
            side = torch.randint(2, (n, 1), generator=generator) * 4.0 - 2
            return (self.scale * (x + side) + self.shift).float()

        train, valid, test = (draw(n) for n in (self.num_train, self.num_valid, self.num_test))
        if self.spoil == "constant":
            train[:, 1] = 0.1
        elif self.spoil == "twin":
            train[:, 1] = train[:, 0]
        elif self.spoil in ("nan", "inf"):
            (valid if self.spoil == "nan" else train)[3:5, 0] = float(self.spoil)
        elif self.spoil == "shape":
            test = test[:, :1]
        return Data(train, valid, test)


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The dataset is registered while these tests run, and no other test sees it."""
    assert "two_moons" in DATASETS
    monkeypatch.setitem(DATASETS._entries, "plain", Plain)
    yield


def config_of(family: str = "maf", cif: bool = False, groups: dict[str, Any] | None = None, **dataset: Any) -> Config:
    """A small model of `dataset`, by default the one above; `groups` are other groups of the config."""
    return Config.parse(
        {**to_dict(small_config(family, cif)), **(groups or {}), "dataset": {"name": "plain", **dataset}}
    )


def trained(config: Config, steps: int = 60) -> tuple[Model, Data]:
    data = build_data(config)
    model = build_model(config, data.shape, build_standardize(config, data))
    torch.manual_seed(0)
    return train_a_little(model, data.train, steps), data


def log_likelihood(model: Model, x: Tensor) -> float:
    torch.manual_seed(1)
    with torch.no_grad():
        return model.log_prob(x, importance_samples=5).double().mean().item()


# --- scale ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cif", [False, True], ids=["plain", "cif"])
@pytest.mark.parametrize("family", ["resflow", "maf", "nsf_ar"])
def test_the_likelihood_follows_the_unit(family: str, cif: bool) -> None:
    """With x → c x the log-likelihood falls by D log c, after training too: the model inside sees the same numbers.

    Exactly the same: c is a power of two, about a million, so that nothing is rounded which training could blow up.
    """
    values = {}
    for scale in (2.0**-20, 1.0, 2.0**20):
        model, data = trained(config_of(family, cif, scale=scale, standardize=True))
        values[scale] = log_likelihood(model, data.test) + 2 * math.log(scale)
        samples = model.sample(200, seed=0)
        assert samples.isfinite().all()
        ratio = samples.std(0) / data.train.std(0)
        assert ((ratio > 0.3) & (ratio < 3)).all()
    assert math.isfinite(values[1.0])
    for scale in (2.0**-20, 2.0**20):
        assert values[scale] == pytest.approx(values[1.0], abs=1e-5)


@pytest.mark.parametrize("standardize", [True, "auto"])
@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0.0), (1e6, 0.0), (1.0, 1e4), (1e-4, -0.5)])
def test_data_of_another_scale_are_standardised(scale: float, shift: float, standardize: bool | str) -> None:
    config = config_of(scale=scale, shift=shift, standardize=standardize)
    data = build_data(config)
    step = build_standardize(config, data)
    assert step is not None
    z, log_det = step(data.train)
    torch.testing.assert_close(z.mean(0), torch.zeros(2), rtol=0, atol=2e-3)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(2), rtol=0, atol=2e-3)
    torch.testing.assert_close(log_det, -data.train.double().std(0, correction=0).log().sum().float().expand(400))
    error = (step.inverse(z) - data.train).abs().max()
    assert error < 1e-6 * data.train.abs().max()
    assert "Standardize" in describe(config)
    assert build_standardize(config_of(scale=scale, shift=shift, standardize=False), data) is None


@pytest.mark.parametrize("name", ["plain", *(name for name in DATASETS if issubclass(DATASETS[name], Target))])
def test_targets_are_standardised_unless_told_otherwise(name: str) -> None:
    config = config_of(name=name)
    assert config.dataset.standardize is True
    data = build_data(config)
    step = build_standardize(config, data)
    assert step is not None
    z = step(data.train)[0]
    torch.testing.assert_close(z.mean(0), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(2), rtol=0, atol=1e-5)
    for value in (False, "auto"):  # none of them is far from unit scale
        assert build_standardize(config_of(name=name, standardize=value), data) is None


def test_images_are_standardised_by_channel() -> None:
    x = torch.randn(50, 3, 4, 4) * torch.tensor([1.0, 20.0, 300.0])[:, None, None] + 7
    mean, std = Data(x, x, x).moments
    assert mean.shape == std.shape == (3,)
    z, log_det = Standardize((3, 4, 4), mean, std)(x)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(log_det, -16 * std.log().sum().float().expand(50))


def test_standardize_takes_three_values() -> None:
    for value in (True, False, "auto"):
        assert config_of(standardize=value).dataset.standardize == value
    with pytest.raises(ConfigError, match=r"dataset.standardize = 'maybe' is not allowed: it should be .*'auto'"):
        config_of(standardize="maybe")


# --- whole runs -------------------------------------------------------------------------------------------------------

#: Data of which runs of one family are drawn too: the smallest, the fewest, and those far from zero.
DRAWN: list[dict[str, Any]] = [
    {"scale": 1e-6},
    {"num_train": 2, "num_valid": 1, "num_test": 1, "scale": 1e-6},
    {"scale": 1e6, "shift": -3e7, "dim": 1},
]


@pytest.mark.parametrize(
    "dataset",
    [
        *DRAWN,
        {"scale": 1e6},
        {"dim": 1},
        {"num_train": 3, "num_valid": 3, "num_test": 3},
        {"dim": 7, "scale": 1e3},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["resflow", "nsf_ar"])
def test_a_run_of_any_data_ends_well(family: str, dataset: dict[str, Any], tmp_path: Path) -> None:
    trainer = {"max_steps": 6, "valid_every": 3, "plot_every": 0, "progress": False}
    evaluation = {"importance_samples": 3, "valid_importance_samples": 2}
    config = config_of(family, True, {"trainer": trainer, "eval": evaluation}, **dataset)
    with nullcontext() if family == "nsf_ar" and dataset in DRAWN else without_pictures():
        summary = train(config, tmp_path / "run")
    assert summary["status"] == "completed"
    assert summary["skipped_steps"] == 0
    assert math.isfinite(summary["test"]["log_likelihood"])

    # The model comes back from its files alone, with its first step and the constants in it.
    run, data = RunDirectory(tmp_path / "run"), build_data(config)
    model = load_model(run)
    assert isinstance(model.steps[0].bijection, Standardize) == (build_standardize(config, data) is not None)
    _, again = evaluate_split(model, data.test, config, 3)
    assert again["log_likelihood"] == pytest.approx(summary["test"]["log_likelihood"], abs=1e-5)
    samples = model.sample(300, seed=0)
    far = (samples - data.train.mean(0)).abs().amax(0) / data.train.std(0)
    assert samples.isfinite().all()
    assert (far < 1e3).all()


# --- what can't be learned from ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ({"spoil": "constant"}, ["'plain'", "column 2 of 2", "constant", "no density"]),
        ({"spoil": "twin"}, ["column 2 of 2 is equal to column 1 of 2", "leave one out"]),
        ({"spoil": "nan"}, ["column 1 of 2", "validation data", "2 values", "not finite"]),
        ({"spoil": "inf"}, ["column 1 of 2", "training data", "2 values", "not finite"]),
        ({"spoil": "shape"}, ["test events of shape (1,)", "shape (2,)"]),
        ({"num_train": 0}, ["0 training points", "at least 2"]),
        ({"num_train": 1}, ["1 training point:", "at least 2"]),
        ({"num_valid": 0}, ["0 validation points", "at least 1"]),
        ({"num_test": 0}, ["0 test points", "at least 1"]),
        ({"shift": 1e7}, ["column 1 of 2", "around 1", "single precision", "subtract its mean"]),
        ({"scale": 1e-42}, ["column 1 of 2", "standard deviation", "change its unit"]),
        ({"scale": 1e30}, ["column 1 of 2", "standard deviation", "change its unit"]),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_one_sentence_says_what_is_wrong_with_data(dataset: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        build_data(config_of(**dataset))
    assert all(word in str(error.value) for word in words), error.value
    assert len(str(error.value).splitlines()) == 1
