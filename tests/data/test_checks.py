"""Data without a density are refused in one sentence, which names the column; all others are left as they are."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cifrun.data.base import Data
from cifrun.data.checks import check_data
from cifrun.errors import ConfigError


def points(rows: int = 60, columns: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def data_of(train: Tensor, valid: Tensor | None = None, test: Tensor | None = None) -> Data:
    names = ("a", "b", "c")[: train.shape[1]]
    return Data(train, train[:10] if valid is None else valid, train[:10] if test is None else test, columns=names)


def refusal(data: Data) -> str:
    with pytest.raises(ConfigError) as error:
        check_data(data, "mine")
    assert str(error.value).startswith("dataset 'mine'") and len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15])
def test_sound_data_are_given_back(scale: float) -> None:
    data = data_of(scale * points())
    assert check_data(data, "mine") is data


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool])
def test_images_are_sound_though_pixels_repeat(dtype: torch.dtype) -> None:
    x = (points(20, 16).reshape(20, 1, 4, 4) > 0).to(dtype)
    data = Data(x, x, x, levels=2)
    assert check_data(data, "mine") is data


# --- form -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ((0, 5, 5), "has 0 training points: it needs at least 2"),
        ((1, 5, 5), "has 1 training point: it needs at least 2"),
        ((5, 0, 5), "has 0 validation points: it needs at least 1"),
        ((5, 1, 0), "has 0 test points: it needs at least 1"),
    ],
)
def test_a_split_that_is_too_small(sizes: tuple[int, int, int], sentence: str) -> None:
    assert sentence in refusal(Data(*(points(size) for size in sizes)))


def test_splits_of_two_shapes() -> None:
    x = points()
    assert "holds test events of shape (2,), and training events of shape (3,)" in refusal(data_of(x, test=x[:, :2]))
    for wrong in (x[:, 0], x[:, :0]):
        assert "with at least one number" in refusal(Data(wrong, wrong, wrong))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("split", ["training", "validation", "test"])
def test_numbers_that_are_not_finite_are_counted(split: str, bad: float) -> None:
    splits = {name: points(seed=k) for k, name in enumerate(("training", "validation", "test"))}
    splits[split][3:5, 1] = bad
    sentence = f"column 'b' of the {split} data holds 2 values that are not finite"
    assert sentence in refusal(data_of(*splits.values()))


# --- spread -----------------------------------------------------------------------------------------------------------


def test_a_column_that_does_not_vary() -> None:
    x = points()
    x[:, 1] = 7
    assert "column 'b' is constant in the training data" in refusal(data_of(x))
    images = points(20, 32).reshape(20, 2, 4, 4)
    images[:, 1] = 0.5
    assert "channel 2 of 2 is constant" in refusal(Data(images, images, images))


def test_a_column_that_varies_by_less_than_single_precision_can_tell() -> None:
    """Two neighbouring numbers of single precision around 10⁹ are 64 apart."""
    x = points()
    x[:, 2] = 1e9
    x[::2, 2] += 64
    assert "column 'c' varies by 3.2e+01 around 1e+09" in refusal(data_of(x))
    assert "subtract its mean" in refusal(data_of(x))


def test_in_double_precision_it_may_vary_by_less() -> None:
    x = points().double()
    x[:, 2] += 1e9
    check_data(data_of(x), "mine")
    x[:, 2] = 1e9
    assert "column 'c' is constant" in refusal(data_of(x))


@pytest.mark.parametrize(("scale", "said"), [(1e-40, "e-4"), (3e19, "e+19")])
def test_a_column_in_a_unit_whose_square_is_no_number(scale: float, said: str) -> None:
    x = points().double()
    x[:, 0] *= scale
    sentence = refusal(data_of(x.float()))
    assert "column 'a' has a standard deviation of" in sentence and said in sentence
    assert sentence.endswith("change its unit")


def test_a_column_that_is_another_one() -> None:
    x = points()
    x[:, 2] = x[:, 0]
    assert "column 'c' is equal to column 'a', so no density holds both: leave one out" in refusal(data_of(x))


@pytest.mark.parametrize("change", ["turned around", "scaled", "in another order", "in one row"])
def test_a_column_like_another_one_is_not_the_same(change: str) -> None:
    x = points()
    twin = x[:, 0].clone()
    if change == "in one row":
        twin[5] += 1e-3
    x[:, 2] = {"turned around": -twin, "scaled": 2 * twin, "in another order": twin.flip(0)}.get(change, twin)
    data = data_of(x)
    assert check_data(data, "mine") is data


def test_large_data_are_looked_at_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cifrun.data.pieces.AT_ONCE", 30)
    x = points()
    check_data(data_of(x), "mine")
    x[-1, 1] = math.nan
    assert "column 'b' of the training data holds 1 values" in refusal(data_of(x))
    x[:, 1] = x[:, 0]
    assert "column 'b' is equal to column 'a'" in refusal(data_of(x))


def test_columns_of_one_spread_are_compared_without_going_through_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after standardising: 2000 columns are two million pairs."""
    x = points(40, 2000)
    x = (x - x.mean(0)) / x.std(0)
    x[:, 1999] = x[:, 7]
    compared: list[int] = []
    close = math.isclose
    monkeypatch.setattr(math, "isclose", lambda *a, **k: compared.append(1) or close(*a, **k))
    monkeypatch.setattr(torch, "equal", lambda *_: pytest.fail("columns are compared in pairs"))
    assert "column 2000 of 2000 is equal to column 8 of 2000" in refusal(Data(x, x[:10], x[:10]))
    assert len(compared) < 4000


def test_a_column_that_is_another_one_but_for_the_sign_of_zero() -> None:
    x = points()
    x[:20, 0] = 0.0
    x[:, 2] = x[:, 0]
    x[:20, 2] = -0.0
    assert "column 'c' is equal to column 'a'" in refusal(data_of(x))
