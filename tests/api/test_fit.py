"""Training from Python: the loop of the command line on data in memory, with a run directory or without."""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cifrun
from cifrun.api.fit import DATA
from cifrun.cli.main import main
from cifrun.errors import ConfigError, DataWarning, RunError, TrainingError
from cifrun.runs.directory import RunDirectory
from tests.helpers import after_steps

from .frames import Frame

QUICK: dict[str, Any] = {"batch_size": 50, "settings": {"trainer.valid_every": 5, "trainer.log_every": 5}}
#: Of a run in a directory.
WHOLE = {**QUICK, "settings": {**QUICK["settings"], "diagnostics.enabled": False, "trainer.checkpoint_every": 5}}


def data(count: int = 300) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 2, generator=generator) * torch.tensor([3.0, 0.2]) + torch.tensor([50.0, -1.0])


def flow(cif: bool = False) -> cifrun.Flow:
    return (cifrun.CIF if cif else cifrun.Flow)("maf", 2, depth=2, hidden=[8])


@pytest.mark.parametrize("cif", [False, True])
def test_training_finds_the_density_of_a_gaussian(cif: bool) -> None:
    model, x = flow(cif), data(2000)
    history = cifrun.fit(model, x, steps=60, batch_size=500, standardize=True)
    truth = torch.distributions.Normal(torch.tensor([50.0, -1.0]), torch.tensor([3.0, 0.2])).log_prob(x).sum(1).mean()
    assert not model.training and history.summary["status"] == "completed"
    assert model.log_prob(x, importance_samples=20, seed=0).mean().item() == pytest.approx(truth.item(), abs=0.1)
    steps, losses = history.curve("train/loss")
    assert steps[-1] == 60 and np.isfinite(losses).all()
    assert history.best_valid == max(history.curve("valid/log_likelihood")[1])


def test_the_best_weights_are_kept() -> None:
    """Validation data of another place: training makes them ever less likely, so the first validation is the best."""
    model = flow()
    elsewhere = torch.randn(50, 2) * 0.1 + 52
    history = cifrun.fit(model, data(), valid=elsewhere, steps=40, lr=0.05, standardize=False, **QUICK)
    assert history.best_valid == pytest.approx(model.log_prob(elsewhere).mean().item(), rel=1e-5)
    assert history.best_valid == max(history.curve("valid/log_likelihood")[1])


def test_the_same_call_gives_the_same_model_and_leaves_the_process_as_it_was() -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    expected = torch.rand(2), np.random.rand(), random.random()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    torch.use_deterministic_algorithms(False)
    models = [flow(True) for _ in range(2)]
    histories = [cifrun.fit(model, data(), steps=10, **QUICK) for model in models]
    assert torch.equal(torch.rand(2), expected[0]) and (np.random.rand(), random.random()) == expected[1:]
    assert not torch.are_deterministic_algorithms_enabled()
    assert all(map(torch.equal, models[0].parameters(), models[1].parameters()))
    assert histories[0].curve("train/loss")[1].tolist() == histories[1].curve("train/loss")[1].tolist()


def test_numpy_tensors_and_test_data_of_ones_own() -> None:
    x = data()
    expected = cifrun.fit(flow(), x, steps=5, **QUICK)
    assert "test" not in expected.summary
    other = cifrun.fit(flow(), x.double().numpy(), steps=5, **QUICK)
    assert other.curve("train/loss")[1].tolist() == expected.curve("train/loss")[1].tolist()
    tested = cifrun.fit(flow(), x, test=x[:40], steps=5, **QUICK).summary["test"]
    assert tested["num_data"] == 40 and tested["exact"]


def test_a_directory_holds_a_whole_run(tmp_path: Path) -> None:
    model, x = flow(), data()
    history = cifrun.fit(model, x, steps=10, directory=tmp_path / "run", **WHOLE)
    test = history.summary["test"]
    assert test["num_data"] == 30 and history.rows == RunDirectory(tmp_path / "run").metrics()
    assert (tmp_path / "run" / DATA).is_file() and (tmp_path / "run" / "figures" / "density.png").is_file()
    assert torch.equal(cifrun.load(tmp_path / "run").log_prob(x), model.log_prob(x))
    result = cifrun.evaluate(tmp_path / "run")
    assert result["log_likelihood"] == pytest.approx(test["log_likelihood"])
    assert main(["train", f"resume={tmp_path}/run", "trainer.max_steps=12", "trainer.progress=false"]) == 0
    assert RunDirectory(tmp_path / "run").summary()["steps"] == 12
    assert main(["report", str(tmp_path / "run")]) == 0


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("directory", [None, "run"])
def test_what_is_wrong_with_the_data_is_a_warning(directory: str | None, tmp_path: Path) -> None:
    """Of the line that called; it is in the history too, and is not given again for a run that goes on."""
    x = torch.stack([data()[:, 0], torch.arange(300) % 4], 1)
    place = directory and tmp_path / directory
    with pytest.warns(DataWarning, match=r"^few distinct values in the 2[47]0 training rows: column") as told:
        history = cifrun.fit(flow(), x, steps=5, directory=place, **WHOLE)
    assert [warning.filename for warning in told] == [__file__]
    assert history.summary["data_warnings"] == [str(told[0].message)]
    if directory:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = cifrun.fit(flow(), x, steps=8, directory=place, **WHOLE)
        assert again.summary["data_warnings"] == history.summary["data_warnings"]


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("directory", [None, "run"])
def test_nothing_is_printed(directory: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = directory and tmp_path / directory
    history = cifrun.fit(flow(), data(), test=0.2, steps=5, directory=place, **WHOLE)
    assert history.summary["test"]["num_data"] == 60 and capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("without_pictures")
def test_the_same_call_goes_on_with_a_run_that_was_stopped(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    x, settings = data(), {**WHOLE, "steps": 20}
    with pytest.raises(KeyboardInterrupt), after_steps(12, stop):
        cifrun.fit(flow(), x, directory=tmp_path / "run", **settings)
    one, two = flow(), flow()
    cifrun.fit(one, x, directory=tmp_path / "run", **settings)
    cifrun.fit(two, x, directory=tmp_path / "never stopped", **settings)
    assert all(map(torch.equal, one.parameters(), two.parameters()))
    again = flow()
    cifrun.fit(again, x, directory=tmp_path / "run", **settings)  # it is complete
    assert all(map(torch.equal, one.parameters(), again.parameters()))
    for other in ({"lr": 0.5}, {"seed": 7}, {"x": x + 1}):
        call = {"x": x, **settings, **other}
        with pytest.raises(RunError, match="holds another run"):
            cifrun.fit(flow(), directory=tmp_path / "run", **call)


def test_training_goes_on_from_the_weights_that_a_model_has() -> None:
    model, x = flow(), data()
    first = cifrun.fit(model, x, steps=30, lr=1e-2, **QUICK)
    steps = len(model.steps)
    second = cifrun.fit(model, x + 0.001, steps=1, lr=1e-6, batch_size=50)
    assert len(model.steps) == steps  # it keeps the scale that it was given first
    assert second.best_valid == pytest.approx(first.best_valid, abs=0.05)


def test_a_model_that_was_loaded_is_trained_further(tmp_path: Path) -> None:
    cifrun.fit(flow(), data(), steps=2, directory=tmp_path / "run", **WHOLE)
    loaded = cifrun.load(tmp_path / "run")
    before = loaded.log_prob(data()).mean()
    cifrun.fit(loaded, data(), steps=40, lr=0.01, **QUICK)
    assert loaded.log_prob(data()).mean() > before


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        ({"x": torch.zeros(2)}, ValueError, "one event of shape"),
        ({"x": torch.zeros(9, 3)}, ValueError, r"has the shape \(9, 3\)"),
        ({"x": torch.ones(50, 2)}, ConfigError, "is constant"),
        ({"x": torch.full((50, 2), torch.nan)}, ConfigError, "not finite"),
        ({"valid": 0}, ConfigError, "valid = 0 is not allowed"),
        ({"valid": 1.5}, ConfigError, "valid = 1.5 is not allowed"),
        ({"test": -0.1}, ConfigError, "test = -0.1 is not allowed"),
        ({"steps": 0}, ValueError, "steps = 0 is not allowed: it should be a whole number from 1"),
        ({"seed": 1.5}, ValueError, "seed = 1.5 is not allowed"),
        ({"x": data(50).double() * 1e90}, ConfigError, "numbers beyond 3.4e[+]38"),
        ({"x": data(50).double() * 1e-300}, ConfigError, "numbers below 1.2e-38"),
        ({"model": "maf"}, TypeError, "model is a str, where a cifrun.Flow"),
        ({"objective": "elb"}, ConfigError, "did you mean 'elbo'"),
        ({"settings": {"optimizer.rate": 1}}, ConfigError, r"optimizer\.rate"),
        ({"settings": {"nothing.rate": 1}}, ConfigError, "'nothing.rate' is no setting of training"),
        ({"settings": {"flow.depth": 7}}, ConfigError, r"'flow\.depth' is no setting of training"),
        ({"steps": "a"}, ValueError, "steps = 'a' is not allowed"),
        ({"valid": None}, ValueError, "valid has the shape|no number"),
        ({"valid": data(5)[:, :1]}, ValueError, r"valid has the shape \(5, 1\)"),
        ({"x": [["a", "b"]] * 5}, ValueError, "what is no number"),
        ({"settings": {"device.count": 2}}, ConfigError, "trains on one device"),
        ({"directory": "run", "test": 0}, ConfigError, "a run ends with a test"),
    ],
)
def test_a_mistake_is_a_sentence(
    call: dict[str, Any], error: type[Exception], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=sentence):
        cifrun.fit(**{"model": flow(), "x": data(50), "steps": 2, **call})
    assert not list(tmp_path.iterdir())


def test_columns_of_every_frame_are_found_by_their_names() -> None:
    x = data(200).double().numpy()
    frame = Frame({"a": x[:, 0].tolist(), "b": x[:, 1].tolist()})
    turned = Frame({"b": x[:, 1].tolist(), "a": x[:, 0].tolist()})
    model, other = flow(), flow()
    history = cifrun.fit(model, frame, valid=turned, test=turned, steps=5, **QUICK)
    expected = cifrun.fit(other, x, valid=x, test=x, steps=5, **QUICK)
    assert model.columns == ("a", "b") and history.best_valid == expected.best_valid
    assert history.summary["test"]["log_likelihood"] == expected.summary["test"]["log_likelihood"]
    with pytest.raises(ValueError, match="lacks the columns b"):
        cifrun.fit(flow(), frame, valid=frame[["a"]], steps=2, **QUICK)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rows_to_train_on_are_told_as_such(count: int) -> None:
    for x in (data()[:count], data()[:count].numpy()):
        with pytest.raises(ConfigError, match=f"x has {count} rows, of which none is left to train on"):
            cifrun.fit(cifrun.Flow("affine", dim=2), x, steps=2)


def test_a_table_of_that_name_that_is_of_no_run_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / DATA).write_bytes(b"mine")
    with pytest.raises(RunError, match="is there already, with other data: give another directory"):
        cifrun.fit(cifrun.Flow("affine", dim=2), data(), steps=2, directory=tmp_path)
    assert (tmp_path / DATA).read_bytes() == b"mine" and not (tmp_path / "config.yaml").exists()


def test_a_run_in_a_directory_is_extended_by_more_steps(tmp_path: Path) -> None:
    settings = {"diagnostics.enabled": False}
    for steps in (4, 8):
        history = cifrun.fit(flow(), data(), steps=steps, batch_size=50, directory=tmp_path / "run", settings=settings)
        assert history.summary["steps"] == steps


def test_after_ctrl_c_the_same_call_goes_on_with_the_same_model() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    model, x = flow(), data()
    with pytest.raises(KeyboardInterrupt), after_steps(3, stop):
        cifrun.fit(model, x, steps=10, **QUICK)
    steps = len(model.steps)
    assert not model.training and model.log_prob(x).isfinite().all()
    cifrun.fit(model, x, steps=10, **QUICK)
    assert len(model.steps) == steps


def test_a_training_that_breaks_leaves_the_last_good_weights() -> None:
    model, x = flow(), data()
    settings = {"trainer.max_bad_steps": 2, "trainer.log_every": 1, "trainer.checkpoint_every": 1}
    with pytest.raises(TrainingError, match="kept in the model"):
        cifrun.fit(model, x, steps=50, lr=1e30, settings=settings)
    assert not model.training and all(p.isfinite().all() for p in model.parameters())


def test_an_objective_has_the_defaults_of_the_command_line() -> None:
    model = flow(cif=True)
    cifrun.fit(model, data(), steps=2, objective="iwae", **QUICK)
    assert model.config.objective == cifrun.configure("objective=iwae").objective
    assert cifrun.CIF("vae", 2).config.index == cifrun.configure("flow=vae").index


def test_a_name_that_was_not_logged_is_a_sentence() -> None:
    history = cifrun.fit(flow(), data(), steps=5, **QUICK)
    with pytest.raises(KeyError, match=r"'train/los' was not logged; there are train/elbo, "):
        history.curve("train/los")


def test_a_saved_model_is_no_run_to_go_on_with(tmp_path: Path) -> None:
    flow().save(tmp_path / "model")
    with pytest.raises(RunError, match="model is a saved model, and holds no data: give another directory"):
        cifrun.fit(flow(), data(), steps=2, directory=tmp_path / "model", **WHOLE)


@pytest.mark.usefixtures("without_pictures")
def test_a_run_that_is_killed_after_its_data_are_written_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    call = {"steps": 3, "directory": tmp_path / "run", **WHOLE}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunDirectory, "create", stop)
        cifrun.fit(flow(), data(), **call)
    assert (tmp_path / "run" / DATA).is_file()
    assert cifrun.fit(flow(), data(), **call).summary["status"] == "completed"


@pytest.mark.parametrize("cif", [False, True])
def test_numbers_that_single_precision_would_merge_are_learned(cif: bool, tmp_path: Path) -> None:
    """As they are without what is added to them; the model takes and gives them in double precision."""
    x, away = data(500).double(), torch.tensor([1e8, 5e6], dtype=torch.float64)
    models = {added: flow(cif) for added in (0.0, 1.0)}
    for added, model in models.items():
        cifrun.fit(model, x + added * away, steps=20, optimizer="adam", **QUICK)
    near, far = (models[added].log_prob(x + added * away, 5, seed=0) for added in (0.0, 1.0))
    torch.testing.assert_close(far, near, rtol=1e-2, atol=1e-2)
    drawn = models[1.0].sample(300, seed=0)
    assert drawn.dtype == torch.float64 and models[0.0].sample(3).dtype == torch.float32
    torch.testing.assert_close(drawn - away, models[0.0].sample(300, seed=0).double(), rtol=1e-2, atol=1e-2)
    models[1.0].save(tmp_path / "model")
    assert torch.equal(cifrun.load(tmp_path / "model").log_prob(x + away, 5, seed=0), far)
    more = cifrun.fit(models[1.0], x + away, steps=5, **QUICK)  # which keeps its first step
    assert more.summary["data_warnings"] == [] and more.best_valid is not None and more.best_valid > -10


def test_without_standardising_a_column_that_rounding_made_constant_is_said_to_be_one() -> None:
    x = data(200).double() * 1e-3 + 1e8
    with pytest.raises(ConfigError, match=r"is constant .* if its numbers differ from 100000000 in later digits, subt"):
        cifrun.fit(flow(False), x, standardize=False, steps=5, **QUICK)
