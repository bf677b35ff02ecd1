"""Tables of one's own from the file to samples and scores: their units, their names, and other rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from cifrun.build import build_data, build_model, build_standardize, load_model
from cifrun.cif.model import Model
from cifrun.cif.step import Step
from cifrun.cli.main import main
from cifrun.config.schema import Config
from cifrun.data.tables.formats import open_source
from cifrun.data.tables.reading import read
from cifrun.runs.directory import RunDirectory
from cifrun.training.training_state import TrainingState
from tests.data.tables.helpers import load
from tests.helpers import without_pictures


def config_of(path: Path, standardize: bool | str) -> Config:
    dataset = {"name": "file", "path": str(path), "columns": ["height", "weight", "angle"], "standardize": standardize}
    return Config.parse({"dataset": dataset, "flow": {"family": "affine"}, "cif": False})


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("kind", [True, "whiten"])
def test_numbers_that_single_precision_would_merge_are_kept_apart(kind: bool | str, tmp_path: Path) -> None:
    """Centred in double precision, they are learned as without what is added; results are in the units of the file."""
    x, away = np.random.default_rng(0).normal(size=(600, 2)) * [1, 10], np.array([1e8, 5e6])
    results = {}
    for name, added in (("near", 0 * away), ("away", away)):
        rows = x + added
        for file, part in (("all", rows), ("one", rows[:1])):
            text = "".join(f"{a!r},{b!r}\n" for a, b in part.tolist())
            (tmp_path / f"{name}-{file}.csv").write_text(f"time,place\n{text}")
        data = load(tmp_path / f"{name}-all.csv", standardize=kind)
        assert data.train.dtype == (torch.float64 if name == "away" else torch.float32)
        assert len(data.train[:, 1].unique()) == 480
        run = tmp_path / f"{name}-{kind}"
        words = [f"dataset.path={tmp_path}/{name}-all.csv", f"dataset.standardize={str(kind).lower()}"]
        assert main([
            "train", "dataset=file", *words, "flow=maf", "cif=true", "flow.depth=2", "trainer.max_steps=40",
            "optimizer.lr=0.01", "trainer.progress=false", "eval.importance_samples=5", f"hydra.run.dir={run}",
        ]) == 0  # fmt: skip
        assert main(["eval", f"run={run}", f"data={tmp_path}/{name}-one.csv", f"per_point={tmp_path}/score.csv"]) == 0
        assert main(["sample", f"run={run}", "n=500", f"output={tmp_path}/drawn.csv"]) == 0
        score = np.genfromtxt(tmp_path / "score.csv", delimiter=",", names=True)["log_likelihood"]
        drawn = np.loadtxt(tmp_path / "drawn.csv", delimiter=",", skiprows=1) - added
        summary = RunDirectory(run).summary()
        assert summary["data_warnings"] == [] and len(np.unique(drawn[:, 1])) == 500
        results[name] = [summary["test"]["log_likelihood"], float(score), *drawn.mean(0), *drawn.std(0)]
    assert results["away"] == pytest.approx(results["near"], rel=2e-3, abs=2e-2)


# --- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [True, "whiten"])
def test_log_likelihood_is_in_the_units_of_the_file(kind: bool | str, csv: Path) -> None:
    """With nothing but the first step, the model is the Gaussian with the data's moments: scipy knows its density."""
    config = config_of(csv, kind)
    data = build_data(config)
    step = build_standardize(config, data)
    assert step is not None
    model = Model([Step(step.double())]).eval()
    x = data.train.double().numpy()
    covariance = np.cov(x.T, bias=True)
    if kind is True:
        covariance = np.diag(np.diag(covariance))
    exact = multivariate_normal(x.mean(0), covariance).logpdf(data.test.double().numpy())
    np.testing.assert_allclose(model.log_prob(data.test.double()).numpy(), exact, atol=1e-4)
    z = step(data.train.double())[0]
    np.testing.assert_allclose(z.mean(0), np.zeros(3), atol=1e-3)
    if kind == "whiten":
        np.testing.assert_allclose(np.cov(z.T.numpy(), bias=True), np.eye(3), atol=1e-4)
    samples = model.double().generate(torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0)).double())
    np.testing.assert_allclose(np.cov(samples.T.numpy()), covariance, rtol=0.05, atol=0.05 * covariance.max())
    np.testing.assert_allclose(step.inverse(z).numpy(), x, rtol=1e-9)


# --- from the file to samples and scores -----------------------------------------------------------------------------


def test_three_commands_from_a_csv_to_samples_and_scores(csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset=file", "dataset.path=my.csv", "dataset.columns=[height,weight]", "dataset.standardize=whiten"]
    with without_pictures():
        assert main(["train", *words, "flow=maf", "flow.hidden=[8]", "debug=tiny", "hydra.run.dir=run"]) == 0
    for ending in ("csv", "tsv", "parquet", "npz"):
        assert main(["sample", "run=run", "n=50", f"output=samples.{ending}"]) == 0
        table = read(open_source(Path(f"samples.{ending}")), ["height", "weight"])
        assert table.values.shape == (50, 2)
        assert abs(table.values[:, 0].mean() - 170) < 20
    assert Path("samples.csv").read_text().startswith("height,weight\n")

    other = "weight,id,height\n65,1,170\n66.5,2,171\n900,3,20\n"
    Path("other.csv").write_text(other)
    before = Path("run/summary.json").read_text(), Path("run/metrics.jsonl").read_text()
    capsys.readouterr()
    assert main(["eval", "run=run", "data=other.csv", "per_point=scores.csv", "eval.importance_samples=20"]) == 0
    out, err = capsys.readouterr()
    assert "other.csv, 3 data" in out and "3 rows → scores.csv" in out
    assert err == "cifrun: ignored columns of other.csv: id\n"
    assert (Path("run/summary.json").read_text(), Path("run/metrics.jsonl").read_text()) == before
    header, *rows = Path("scores.csv").read_text().splitlines()
    assert header == "row,log_likelihood,elbo,ess"
    scores = np.array([[float(value) for value in row.split(",")] for row in rows])
    assert scores[:, 0].tolist() == [1, 2, 3]
    assert scores[2, 1] < scores[:2, 1].min() - 10, "an outlier stands out"
    assert (scores[:, 1] >= scores[:, 2] - 1e-4).all() and (scores[:, 3] <= 20.001).all()

    model = load_model(RunDirectory(Path("run")))
    assert model.columns == ("height", "weight")
    log_p = model.elbo(torch.tensor([[170, 65], [171, 66.5]]), 500)
    np.testing.assert_allclose(scores[:2, 2], log_p, atol=0.1)


def test_the_test_set_can_be_written_too(csv: Path) -> None:
    words = ["dataset=file", "dataset.path=my.csv", "dataset.columns=[height]", "flow=affine", "cif=false"]
    with without_pictures():
        assert main(["train", *words, "debug=tiny", "hydra.run.dir=run"]) == 0
    assert main(["eval", "run=run", "per_point=scores.parquet"]) == 0
    scores = read(open_source(Path("scores.parquet")), ["log_likelihood", "elbo", "ess"]).values
    mean = json.loads(Path("run/summary.json").read_text())["test"]["log_likelihood"]
    assert scores[:, 0].mean() == pytest.approx(mean, abs=1e-4)
    assert np.array_equal(scores[:, 0], scores[:, 1]) and (scores[:, 2] == 1).all()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["data=no.csv"], ["no file", "no.csv"]),
        (["data=lacks.csv"], ["no column 'weight'", "it has height"]),
        (["data=text.csv"], ["row 1, column 'weight' holds 'x'"]),
        (["data=three.npy"], ["no column 'height'", "x1, x2, x3"]),
        (["per_point=scores.txt"], ["per_point = 'scores.txt'", ".csv, .tsv, .parquet, .npz"]),
        (["data=good.csv", "per_point=nowhere/s.csv"], ["nowhere/s.csv", "no such folder"]),
        (["data=good.csv", "per_point=./good.csv"], ["good.csv", "overwrite the data"]),
    ],
)
def test_one_sentence_when_other_data_do_not_fit(
    words: list[str], expected: list[str], csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = {"name": "file", "path": str(csv), "columns": ["height", "weight"]}
    config = Config.parse({"dataset": dataset, "flow": {"family": "affine"}, "cif": False})
    data = build_data(config)
    step = build_standardize(config, data)
    model = build_model(config, data.shape, step)
    run = RunDirectory(Path("run"))
    run.create(config)
    run.save_checkpoint("latest", TrainingState([2], True, list(data.columns)).checkpoint(model))
    Path("lacks.csv").write_text("height\n1\n")
    Path("text.csv").write_text("height,weight\n1,x\n")
    Path("good.csv").write_text("height,weight\n1,2\n")
    np.save("three.npy", np.zeros((2, 3)))
    assert main(["eval", "run=run", *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and all(word in err for word in expected), err
