"""Samples in a file are those of the model, and a file is there only when all of them are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cifrun.bijections.linear import ElementwiseAffine
from cifrun.build import build_model, load_model
from cifrun.cif.model import Model
from cifrun.compute import memory
from cifrun.config.schema import Config
from cifrun.errors import ConfigError, ConvergenceError
from cifrun.evaluation.sample import sample
from cifrun.runs.directory import RunDirectory
from cifrun.training.training_state import TrainingState
from tests.helpers import small_config

SCALE, SHIFT = torch.tensor([0.7, -0.4]), torch.tensor([3.0, -5.0])


@pytest.fixture
def config() -> Config:
    return small_config("affine", False, flow={"depth": 1}, device={"accelerator": "cpu"}, n=7, seed=3)


def write(path: Path, config: Config) -> Path:
    """A run of this config that got as far as its first checkpoint, and of an affine flow with these numbers."""
    model = build_model(config, (2,))
    if isinstance(affine := model.steps[0].bijection, ElementwiseAffine):
        with torch.no_grad():
            affine.log_scale.copy_(SCALE)
            affine.shift.copy_(SHIFT)
    run = RunDirectory(path)
    run.create(config)
    run.save_checkpoint("latest", TrainingState([2], columns=["left", "right"]).checkpoint(model))
    return path


def test_samples_are_the_prior_seen_through_the_flow(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write(tmp_path / "run", config)
    z = torch.randn(7, 2, generator=torch.Generator().manual_seed(3))
    expected = ((z - SHIFT) * torch.exp(-SCALE)).numpy()
    assert sample(run, config) == run / "samples.npy"
    found = np.load(run / "samples.npy")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert capsys.readouterr().out == f"7 samples → {run / 'samples.npy'}\n"

    table = tmp_path / "table.NPZ"
    sample(run, replace(config, output=table))
    columns = np.load(table)
    assert columns.files == ["left", "right"]
    assert np.array_equal(np.stack([columns[name] for name in columns.files], 1), found)
    sample(run, replace(config, seed=4, output=tmp_path / "others.npy"))
    assert not np.isin(np.load(tmp_path / "others.npy"), found).any()


def test_an_ending_is_refused_before_a_model_is_looked_for(config: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"output = '.*x\.txt' is not allowed.* one of \.npy, \.png, \.csv"):
        sample(tmp_path / "nowhere", replace(config, output=tmp_path / "x.txt"))


def test_what_has_room_once_and_not_twice_is_refused_before_the_work(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts and what they are put together to are there at one time."""
    run = write(tmp_path / "run", config)
    monkeypatch.setattr(memory, "_meminfo", lambda name: 24 * 2**30)
    with pytest.raises(ConfigError, match="n = 2147483647 samples would take 32 GiB, and this machine has 24 GiB"):
        sample(run, replace(config, n=2**31 - 1))


def test_where_an_inverse_fails_half_way_the_old_file_stays(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, generate, calls = write(tmp_path / "run", config), Model.generate, []

    def failing(self: Model, z: torch.Tensor) -> torch.Tensor:
        calls.append(len(z))
        if len(calls) == 2:
            raise ConvergenceError("no inverse out there")
        return generate(self, z)

    output = tmp_path / "x.npy"
    output.write_text("old")
    monkeypatch.setattr(Model, "generate", failing)
    config = replace(config, output=output, eval=replace(config.eval, chunk_size=4))
    with pytest.raises(ConvergenceError, match="out there"):
        sample(run, config)
    assert calls == [4, 3]
    assert output.read_text() == "old" and {path.name for path in tmp_path.iterdir()} == {"run", "x.npy"}


def test_how_well_an_iterative_inverse_was_solved_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small_config("planar", False, device={"accelerator": "cpu"}, n=50)
    output = sample(write(tmp_path / "run", config), config)
    told = capsys.readouterr().out.partition("; largest residual of the inverse ")[2]
    assert 0 <= float(told) < 1e-5
    assert np.isfinite(np.load(output)).all()


def test_many_draws_are_those_of_one_pass_and_tell_how_far_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config("planar", False, device={"accelerator": "cpu"}, n=50, seed=3, trainer={"progress": True})
    run = write(tmp_path / "run", config)
    model = load_model(RunDirectory(run), config)
    residuals = iter([0.5, 0.25, 0.125])
    monkeypatch.setattr(Model, "inverse_residual", lambda _: next(residuals))
    output = sample(run, replace(config, eval=replace(config.eval, chunk_size=20)))
    told = capsys.readouterr()
    assert np.array_equal(np.load(output), model.sample(50, seed=3, chunk_size=20).numpy())
    assert "largest residual of the inverse 5.0e-01" in told.out
    assert "sample 0/50" in told.err and "sample 50/50" in told.err
