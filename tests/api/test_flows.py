"""Flows in a user's hands: numbers as they come, the same as the command line's, and back from disk."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import cifrun
from cifrun.cli.main import main
from cifrun.errors import ConfigError, RunError
from cifrun.registry import FLOWS
from tests.helpers import SMALL, randomise

from .frames import Frame

VECTORS = [name for name in FLOWS if not FLOWS[name].images and not FLOWS[name].binary]
CASES = [(name, cif) for name in VECTORS for cif in (False, True) if cif or not FLOWS[name].needs_index]


def small(name: str, cif: bool, dim: int = 3, **settings: Any) -> cifrun.Flow:
    """A small model with weights away from where they begin, in eval mode."""
    known = {key: value for key, value in SMALL.items() if key in FLOWS[name].__dataclass_fields__}
    model = (cifrun.CIF if cif else cifrun.Flow)(name, dim, **{**known, **settings}).eval()
    randomise(model, 0.2)
    return model


def points(count: int = 6, dim: int = 3) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "cif"), CASES)
def test_the_numbers_are_those_that_eval_writes_for_each_datum(name: str, cif: bool, tmp_path: Path) -> None:
    model = small(name, cif)
    x = points()
    model.save(tmp_path / "run")
    np.save(tmp_path / "x.npy", x.numpy())
    words = [f"run={tmp_path}/run", f"data={tmp_path}/x.npy", f"per_point={tmp_path}/out.csv"]
    assert main(["eval", *words, "eval.importance_samples=7", "eval.seed=5", "device=cpu"]) == 0
    with open(tmp_path / "out.csv") as file:
        written = [float(row["log_likelihood"]) for row in csv.DictReader(file)]
    found = model.log_prob(x, importance_samples=7, seed=5)
    np.testing.assert_allclose(found.detach().numpy(), written, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cif", [False, True])
def test_numbers_are_taken_as_they_come(cif: bool) -> None:
    model, x = small("maf", cif), points()

    def of(x: Any) -> Any:
        return model.log_prob(x, importance_samples=4, seed=1)

    batch = of(x)
    assert isinstance(batch, Tensor) and batch.shape == (6,) and batch.dtype == torch.float32
    wide = of(x.double())
    assert wide.dtype == torch.float64 and torch.equal(wide.float(), batch)
    array = of(x.numpy())
    assert isinstance(array, np.ndarray) and array.dtype == np.float32
    np.testing.assert_array_equal(array, batch.detach().numpy())
    assert of(x.double().numpy()).dtype == np.float64
    one = of(x[0])
    assert one.shape == () and torch.equal(one, of(x[:1])[0])
    assert isinstance(of(x[0].numpy()), np.float32)
    np.testing.assert_array_equal(of(x.tolist()), of(x.double().numpy()))


def test_a_model_in_double_precision_computes_in_it() -> None:
    model, x = small("maf", False).double(), points().double()
    exact = model.log_prob(x)
    assert exact.dtype == torch.float64
    single = small("maf", False).log_prob(x)
    assert 0 < (exact - single).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(3, 3, 3), (2,), (6, 2), ()])
def test_another_shape_is_a_sentence(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"has the shape \(.*where the model takes one event of shape \(3,\)"):
        small("maf", False).log_prob(torch.zeros(shape))


def test_columns_of_a_data_frame_are_found_by_their_names() -> None:
    model, x = small("maf", False), points().double()
    frame = Frame({"c": x[:, 2].tolist(), "a": x[:, 0].tolist(), "b": x[:, 1].tolist()})
    model.columns = ("a", "b", "c")
    np.testing.assert_array_equal(model.log_prob(frame), model.log_prob(x.numpy()))
    with pytest.raises(ValueError, match="lacks the columns c, which"):
        model.log_prob(frame[["a", "b"]])


def test_a_value_of_a_data_frame_that_is_no_number_is_named_with_its_column() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [1, 2], "c": [0.5, 1.5]})
    model = small("maf", False)
    assert model.log_prob(frame).shape == (2,) and model.log_prob(frame.iloc[0]).shape == ()
    for value, shown in (("much", "much"), (pandas.NA, "<NA>")):
        wrong = frame.astype({"b": object})
        wrong.loc[1, "b"] = value
        with pytest.raises(ValueError, match=f"x holds what is no number: {shown} in row 2 of column 'b'"):
            model.log_prob(wrong)


@pytest.mark.parametrize("names", [{"importance_samples": 0}, {"chunk_size": 0}, {"importance_samples": "a"}])
def test_counts_are_whole_numbers_from_1(names: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(names))} = .* is not allowed"):
        small("maf", True).log_prob(points(), **names)
    with pytest.raises(ValueError, match="n = -1 is not allowed"):
        small("maf", True).sample(-1)


@pytest.mark.parametrize("x", [np.zeros((2, 3), np.complex64), [["a", "b", "c"]], [[{}, 1, 2]]])
def test_what_is_no_real_number_is_a_sentence(x: Any) -> None:
    with pytest.raises(ValueError, match=r"complex numbers|no number|not finite") as refused:
        small("maf", False).log_prob(x)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "of", [Tensor.to_sparse, Tensor.to_sparse_csr, lambda x: torch.quantize_per_tensor(x, 1.0, 0, torch.quint8)]
)
def test_a_tensor_that_is_packed_is_taken_for_what_it_holds(of: Any) -> None:
    model, x = small("maf", False), torch.tensor([[1.0, 0, 0], [0, 2, 0]])
    expected = model.log_prob(x)
    torch.testing.assert_close(model.log_prob(of(x)), expected)
    torch.testing.assert_close(model.distribution().log_prob(of(x)), expected)


def test_a_tensor_without_numbers_or_of_rows_of_several_lengths_is_a_sentence() -> None:
    model = small("maf", False)
    for x in (torch.zeros(2, 3, device="meta"), torch.nested.nested_tensor([torch.zeros(3), torch.zeros(2)])):
        for take in (model.log_prob, model.distribution().log_prob):
            with pytest.raises(ValueError, match=r"is a tensor (without numbers|of rows of several lengths)"):
                take(x)


def test_second_derivatives_of_a_residual_flow_are_those_of_its_first() -> None:
    model = small("resflow", False).double()
    x = points(2).double().requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_prob(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient[:, 0].sum(), x)
    step = 1e-5 * torch.eye(3, dtype=torch.float64)[1]
    up, down = (torch.autograd.grad(model.log_prob(y).sum(), y)[0] for y in (x + step, x - step))
    torch.testing.assert_close(second[:, 1], ((up - down) / 2e-5)[:, 0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("name", "cif"), CASES)
def test_the_gradient_of_log_prob_is_that_of_its_formula(name: str, cif: bool) -> None:
    """In x, by central differences in double precision, with the same random numbers on both sides."""
    settings = {"eval_tolerance": 1e-10} if name == "cnf" else {}
    model, x = small(name, cif, **settings).double(), points(3).double().requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_prob(x, importance_samples=3, seed=2).sum(), x)
    direction, step = points(3).double().flip(0), 1e-5
    with torch.no_grad():
        up, down = (model.log_prob(x + sign * step * direction, importance_samples=3, seed=2) for sign in (1, -1))
    torch.testing.assert_close((gradient * direction).sum(1), (up - down) / (2 * step), rtol=1e-4, atol=1e-5)


def test_a_saved_model_comes_back(tmp_path: Path) -> None:
    model, x = small("maf", True, index_dim=2), points()
    model.columns = ("a", "b", "c")
    model.save(tmp_path / "model")
    again = cifrun.load(tmp_path / "model")
    assert isinstance(again, cifrun.CIF) and not again.training and again.columns == model.columns
    assert again.config.index.dim == 2
    assert torch.equal(again.log_prob(x, seed=3), model.log_prob(x, seed=3))
    randomise(model)
    model.save(tmp_path / "model")  # what was saved is replaced
    assert torch.equal(cifrun.load(tmp_path / "model").log_prob(x, seed=3), model.log_prob(x, seed=3))
    assert main(["sample", f"run={tmp_path}/model", "n=4", f"output={tmp_path}/s.csv", "device=cpu"]) == 0
    assert (tmp_path / "s.csv").read_text().startswith("a,b,c\n")


@pytest.mark.parametrize("cif", [False, True])
def test_a_saved_model_comes_back_in_its_precision(cif: bool, tmp_path: Path) -> None:
    model, x = small("maf", cif).double(), points().double()
    with torch.no_grad():
        next(model.parameters()).add_(1e-10)  # what single precision does not hold
    model.save(tmp_path / "model")
    again = cifrun.load(tmp_path / "model")
    assert {tensor.dtype for tensor in again.state_dict().values() if tensor.is_floating_point()} == {torch.float64}
    assert all(map(torch.equal, again.state_dict().values(), model.state_dict().values()))
    found, expected = (m.log_prob(x, importance_samples=4, seed=3) for m in (again, model))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert again.sample(3, seed=0).dtype == torch.float64
    model.float().save(tmp_path / "model")
    assert next(cifrun.load(tmp_path / "model").parameters()).dtype == torch.float32


def test_a_saved_model_has_no_data_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small("realnvp", False).save(tmp_path / "model")
    with pytest.raises(RunError, match="model is a saved model, and holds no data: give data of your own to log_prob"):
        cifrun.evaluate(tmp_path / "model")
    with pytest.raises(RunError, match=r"a saved model, .*: train it from Python, with cifrun\.load and cifrun\.fit"):
        cifrun.train(cifrun.load(tmp_path / "model").config, tmp_path / "model", resume=True)
    assert main(["eval", f"run={tmp_path}/model"]) == 2
    assert capsys.readouterr().err.startswith(f"cifrun: {tmp_path}/model is a saved model, and holds no data")


@pytest.mark.parametrize("name", ["maf", "realnvp", "resflow"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_used_nor_saved(name: str, bad: float, tmp_path: Path) -> None:
    model, x = small(name, True), points()
    model.save(tmp_path / "model")
    before = model.log_prob(x, seed=0)
    weight = list(model.parameters())[-1]
    good = weight.detach().clone()
    with torch.no_grad():
        weight.view(-1)[-1] = bad
    dist = model.distribution()
    calls = [lambda: model.log_prob(x), lambda: model.elbo(x), lambda: model.sample(3), lambda: model.rsample(3)]
    for call in [*calls, lambda: dist.log_prob(x), dist.sample]:
        with pytest.raises(ValueError, match=r"^the model has weights that are not finite$"):
            call()
    with pytest.raises(RunError, match=r"^the model has weights that are not finite$"):
        model.save(tmp_path / "model")
    assert torch.equal(cifrun.load(tmp_path / "model").log_prob(x, seed=0), before)  # what was saved is still there
    with torch.no_grad():
        weight.copy_(good)
    assert model.sample(3).isfinite().all() and torch.equal(model.log_prob(x, seed=0), before)


def test_data_that_are_not_numbers_have_no_density() -> None:
    x = points()
    x[1, 0] = float("nan")
    assert small("maf", False).log_prob(x).isfinite().tolist() == [True, False, *[True] * 4]


def test_a_run_with_records_is_not_overwritten(tmp_path: Path) -> None:
    model = small("realnvp", False)
    cifrun.fit(model, points(100), steps=2, batch_size=20, directory=tmp_path / "run", settings={"device.count": 1})
    files = [file for file in sorted((tmp_path / "run").rglob("*")) if file.name != ".lock"]
    before = [file.stat().st_mtime_ns for file in files]
    with pytest.raises(RunError, match="holds a run with records"):
        model.save(tmp_path / "run")
    assert before == [file.stat().st_mtime_ns for file in files]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: cifrun.Flow("mfa", 3), r"there is no flow 'mfa'.*did you mean 'maf'"),
        (lambda: cifrun.Flow("maf", 3, dpth=2), r"flow\.dpth.*did you mean 'flow\.depth'"),
        (lambda: cifrun.Flow("maf", 3, depth=0), r"flow\.depth = 0"),
        (lambda: cifrun.Flow("maf", 3, index_dim=2), "index_dim is a setting of a CIF"),
        (lambda: cifrun.CIF("maf", 3, index_size=2), r"index\.size"),
        (lambda: cifrun.Flow("maf", 0), "dim = 0 is not allowed"),
        (lambda: cifrun.Flow("realnvp", 1), "needs at least 2 dimensions"),
        (lambda: cifrun.Flow("vae", 2), "is made of its index"),
    ],
)
def test_a_mistake_is_a_sentence(make: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make()


def test_a_training_loop_of_ones_own_learns() -> None:
    torch.manual_seed(0)
    model, x = cifrun.CIF("realnvp", 2, depth=2), torch.randn(500, 2) * torch.tensor([0.3, 2.0])
    before = model.eval().log_prob(x, importance_samples=5).mean()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(100):
        optimizer.zero_grad()
        loss = -model.log_w(x).mean()
        loss.backward()
        optimizer.step()
    assert model.eval().log_prob(x, importance_samples=5).mean() > before + 0.3


def test_models_of_one_seed_are_the_same_and_leave_the_random_state_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    one, two, other = (cifrun.Flow("maf", 3, seed=seed) for seed in (1, 1, 2))
    one.log_prob(points(), seed=0)
    one.sample(3, seed=0)
    assert torch.equal(torch.rand(3), expected)
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in (one, two, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
