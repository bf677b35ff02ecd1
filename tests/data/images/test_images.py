"""Images: read from their original files, made continuous by noise, and measured in bits a dimension."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cifrun.bijections.base import Bijection, Invert
from cifrun.bijections.preprocess.pixels import Centre, Logit
from cifrun.build import build_data, build_model, build_standardize, describe, load_model
from cifrun.cif.model import Model
from cifrun.cif.paths import reconstruct
from cifrun.cif.step import Step
from cifrun.cli.config_groups import groups
from cifrun.cli.main import main
from cifrun.config.schema import Config
from cifrun.data.grey_levels import dequantize
from cifrun.errors import ConfigError
from cifrun.evaluation.evaluate import estimate_split, evaluate_split
from cifrun.registry import FLOWS
from cifrun.runs.directory import RunDirectory
from cifrun.runs.records import read_metrics
from cifrun.training.loop import train
from tests.helpers import STEADY, randomise, unrendered, without_pictures

from ..image_archive import NAMES, put


def config_of(family: str = "maf", cif: bool = False, groups: dict[str, Any] | None = None, **dataset: Any) -> Config:
    """A small model of the bundled digits."""
    sizes = {"num_train": 200, "num_valid": 50, "num_test": 100}
    flow = {"family": family, "depth": 2, "hidden": [16]}
    data = {"name": "digits", **sizes, **dataset}
    return Config.parse({"dataset": data, "flow": flow, "cif": cif, **(groups or {})})


# --- noise ------------------------------------------------------------------------------------------------------------


class Quantile(Bijection):
    """The standard normal quantile of a density that is constant between integers, n ≤ x < n + 1: P(n)."""

    def __init__(self, shape: tuple[int, ...], probabilities: Tensor) -> None:
        super().__init__(shape)
        self.p = torch.nn.Parameter(probabilities.double())

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        n = x.floor().long()
        z = torch.special.ndtri((self.p.cumsum(0) - self.p)[n] + self.p[n] * (x - n))
        normal = -0.5 * z * z - 0.5 * math.log(2 * math.pi)
        return z, (self.p[n].log() - normal).flatten(1).sum(1)

    def _inverse(self, z: Tensor) -> Tensor:
        raise NotImplementedError


@pytest.mark.parametrize("first", ["none", "logit", "centre"])
@pytest.mark.parametrize(
    ("probabilities", "bits"),
    [([1 / 2, 1 / 4, 1 / 8, 1 / 8], 1.75), ([1 / 17] * 17, math.log2(17)), ([1 / 256] * 256, 8.0)],
    ids=["four levels", "17 levels", "256 levels"],
)
def test_a_known_distribution_gets_its_bits_per_dim(probabilities: list[float], bits: float, first: str) -> None:
    """Images in which each level comes up as often as it is probable, and a model that is exactly their density."""
    shape, levels = (2, 4, 4), len(probabilities)
    counts = [round(p * 2176) for p in probabilities] if levels == 17 else [round(p * 2048) for p in probabilities]
    pixels = torch.repeat_interleave(torch.arange(levels, dtype=torch.uint8), torch.tensor(counts))
    x = pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))].reshape(-1, *shape)
    steps: list[Bijection] = [Quantile(shape, torch.tensor(probabilities))]
    if first != "none":  # there and back: the constants of its Jacobian take part, and should leave no trace
        step = Logit(shape, levels, 0.05) if first == "logit" else Centre(shape, levels)
        steps = [step.double(), Invert(step.double()), *steps]
    model = Model([Step(step) for step in steps])
    _, result = evaluate_split(model, x, config_of(), 1)
    assert result["bits_per_dim"] == pytest.approx(bits, abs=1e-6)
    assert result["bits_per_dim_se"] == pytest.approx(result["log_likelihood_se"] / 32 / math.log(2))


def test_evaluation_has_its_own_noise_whatever_the_chunk() -> None:
    config = config_of()
    data = build_data(config)
    model = build_model(config, data.shape, build_standardize(config, data))
    torch.manual_seed(1)
    one = estimate_split(model, data.test, config, 1).log_likelihood
    torch.manual_seed(2)
    before = torch.get_rng_state()
    small_chunks = config_of(groups={"eval": {"chunk_size": 7}})
    torch.testing.assert_close(estimate_split(model, data.test, small_chunks, 1).log_likelihood, one)
    assert torch.equal(torch.get_rng_state(), before)
    other = estimate_split(model, data.test, config_of(groups={"eval": {"seed": 1}}), 1).log_likelihood
    assert not torch.allclose(other, one)


# --- models -----------------------------------------------------------------------------------------------------------

PACE = {"valid_every": 3, "log_every": 2, "checkpoint_every": 4, "plot_every": 0, "batch_size": 30, "progress": False}
EVAL = {"importance_samples": 2, "valid_importance_samples": 2}


@pytest.mark.parametrize("cif", [False, True])
def test_eight_steps_are_four_and_four(cif: bool, tmp_path: Path) -> None:
    """The noise comes from the training generator, whose state is part of the checkpoint."""

    def run(steps: int, name: str, resume: bool = False) -> dict[str, Any]:
        config = config_of("realnvp", cif, {"trainer": {**PACE, "max_steps": steps}, "eval": EVAL, "optimizer": STEADY})
        with without_pictures():
            return train(config, tmp_path / name, resume)

    whole = run(8, "whole")
    run(4, "parts")
    parts = run(8, "parts", resume=True)
    first, second = (RunDirectory(tmp_path / name).load_checkpoint("latest").tensors for name in ("whole", "parts"))
    assert first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
    assert whole["test"]["bits_per_dim"] == parts["test"]["bits_per_dim"]
    rows = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    valid = [row for row in rows if "valid/bits_per_dim" in row]
    assert [row["step"] for row in valid] == [3, 6, 8]
    for row in valid:
        assert row["valid/bits_per_dim"] == pytest.approx(-row["valid/log_likelihood"] / 64 / math.log(2))
    assert rows[-1]["test/bits_per_dim_se"] == whole["test"]["bits_per_dim_se"] > 0


@pytest.mark.parametrize(
    ("dataset", "kind"),
    [({"logit_lambda": 0.01}, Logit), ({"preprocess": "centre"}, Centre), ({"preprocess": "none"}, type(None))],
    ids=["logit", "centre", "none"],
)
def test_a_run_remembers_what_it_does_to_pixels(dataset: dict[str, Any], kind: type, tmp_path: Path) -> None:
    config = config_of("maf", True, {"trainer": {**PACE, "max_steps": 2}, "eval": EVAL}, **dataset)
    with unrendered() if kind is Logit else without_pictures():
        summary = train(config, tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    model, data = load_model(run, tag="latest"), build_data(config)
    first = build_standardize(config, data)
    assert type(first) is kind and model.levels == 17
    assert type(model.steps[0].bijection) is (kind if first is not None else type(model.steps[0].bijection))
    if isinstance(first, Logit):
        found = model.steps[0].bijection
        assert isinstance(found, Logit) and float(found.lam) == pytest.approx(0.01) and float(found.levels) == 17
    _, again = evaluate_split(model, data.test, config, 2)
    assert again["bits_per_dim"] == pytest.approx(summary["test"]["bits_per_dim"], abs=1e-5)
    samples = model.sample(5, seed=0)
    assert samples.shape == (5, 1, 8, 8)
    if kind is Logit:
        names = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
        assert {"samples.png", "reconstructions.png", "training.png", "bounds.png", "lipschitz.png"} <= names


@pytest.mark.parametrize("cif", [False, True])
def test_reconstructions_are_the_data(cif: bool) -> None:
    config = config_of("maf", cif)
    data = build_data(config)
    model = build_model(config, data.shape, build_standardize(config, data)).double()
    randomise(model, 0.1)
    x = dequantize(data.test[:20]).double()
    torch.testing.assert_close(reconstruct(model.eval(), x), x, rtol=0, atol=1e-6)


def test_flows_for_vectors_take_images_in_a_row() -> None:
    text = describe(config_of())
    assert "digits (1, 8, 8)" in text and "Flatten" in text and "Logit" in text


def test_preprocessing_takes_three_values() -> None:
    with pytest.raises(ConfigError, match=r"dataset.preprocess = 'whiten' is not allowed"):
        config_of(preprocess="whiten")
    with pytest.raises(ConfigError, match=r"dataset.logit_lambda = 0.5 is not allowed"):
        config_of(logit_lambda=0.5)


# --- pixels that are 0 or 1 -------------------------------------------------------------------------------------------


def test_densities_are_not_for_pixels_that_are_0_or_1(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"'digits' holds pixels that are 0 or 1, which flow=maf does not model"):
        build_data(config_of(binarize=True))
    monkeypatch.setattr(FLOWS["affine"], "binary", True)
    config = Config.parse({"dataset": {"name": "digits", "binarize": True}, "flow": {"family": "affine"}})
    assert build_data(config).binary and build_standardize(config, build_data(config)) is None
    config = Config.parse({"dataset": {"name": "digits"}, "flow": {"family": "affine"}})
    with pytest.raises(ConfigError, match=r"numbers that are not 0 or 1 only.*dataset.binarize=true"):
        build_data(config)


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("images") / "run"
    with without_pictures():
        assert main(["train", "dataset=digits", "flow=maf", "debug=tiny", f"hydra.run.dir={run}"]) == 0
    return run


def test_samples_are_grey_levels_that_can_be_scored(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*words: str) -> int:
        return main([words[0], f"run={run}", *words[1:]])

    for name in ("x.npy", "x.png", "x.csv"):
        assert call("sample", "n=9", f"output={run / name}", "seed=3") == 0
    x = np.load(run / "x.npy")
    assert x.dtype == np.uint8 and x.shape == (9, 1, 8, 8) and x.max() <= 16
    table = np.loadtxt(run / "x.csv", delimiter=",", skiprows=1)
    assert np.array_equal(table, x.reshape(9, 64))
    assert (run / "x.png").read_bytes().startswith(b"\x89PNG")
    assert call("eval", f"data={run / 'x.npy'}", f"per_point={run / 'scores.csv'}") == 0
    assert call("eval", f"per_point={run / 'test.csv'}") == 0
    for file, count in (("scores.csv", 9), ("test.csv", 100)):
        scores = np.genfromtxt(run / file, delimiter=",", names=True)
        assert len(scores) == count and np.isfinite(scores["log_likelihood"]).all()
    assert "bits per dimension" in capsys.readouterr().out


PRESETS = [
    (preset, dataset, cif)
    for preset in groups()["experiment"]
    if preset.startswith("image_")
    for dataset in NAMES
    for cif in ("false", "true")
]
QUICK = [("image_resflow", "mnist", "true"), ("image_glow", "svhn", "false")]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("preset", "dataset", "cif"), [pytest.param(*p, marks=[] if p in QUICK else [pytest.mark.slow]) for p in PRESETS]
)
def test_every_preset_runs(preset: str, dataset: str, cif: str, tmp_path: Path) -> None:
    put(dataset, tmp_path / "data")
    words = [
        f"experiment={preset}",
        f"dataset={dataset}",
        f"cif={cif}",
        "debug=tiny",
        f"dataset.root={tmp_path / 'data'}",
    ]
    assert main(["train", *words, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "completed" and summary["test"]["bits_per_dim"] > 0
    assert "left_out" not in summary["test"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: np.zeros((3, 8, 8), np.uint8), ["its sizes are 3 × 8 × 8, where they should be N × 1 × 8 × 8"]),
        (lambda: np.zeros((3, 1, 8, 8)), ["type float64", "uint8"]),
        (lambda: np.full((3, 1, 8, 8), 200, np.uint8), ["pixels up to 200", "below 17"]),
        (lambda: np.zeros((0, 1, 8, 8), np.uint8), ["its sizes are 0 × 1 × 8 × 8"]),
    ],
)
def test_other_data_that_are_no_such_images(
    run: Path, make: Callable[[], np.ndarray], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(run / "other.npy", make())
    capsys.readouterr()
    assert main(["eval", f"run={run}", f"data={run / 'other.npy'}"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and all(word in err for word in words), err
