"""What every dataset is made of: splits with their moments and names, and targets with their densities."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic.dataclasses import dataclass
from scipy import stats
from torch import Tensor

from cifrun.config.fields import STRICT
from cifrun.data.base import (
    AnyDataset,
    Box,
    Data,
    Target,
    flat,
    log_normal,
    normal,
    square,
    uniform,
    within,
)
from cifrun.errors import ConfigError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- splits -----------------------------------------------------------------------------------------------------------


def test_moments_of_a_large_table_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1000, 3, generator=seeded()) * torch.tensor([1.0, 5.0, 9.0]) + 4
    data = Data(x, x, x)
    whole = (*data.moments, data.covariance())
    monkeypatch.setattr("cifrun.data.pieces.AT_ONCE", 21)
    data = Data(x, x, x)
    for piecewise, at_once in zip((*data.moments, data.covariance()), whole, strict=True):
        torch.testing.assert_close(piecewise, at_once, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(data.covariance(), x.double().T.cov(correction=0), rtol=1e-12, atol=1e-12)


def test_moments_are_those_of_the_training_data_by_channel() -> None:
    x = torch.randint(0, 256, (50, 3, 4, 2), generator=seeded(), dtype=torch.uint8)
    mean, std = Data(x, x[:0], x[:0], levels=256).moments
    assert mean.dtype == std.dtype == torch.float64
    torch.testing.assert_close(mean, x.double().mean((0, 2, 3)))
    torch.testing.assert_close(std, x.double().std((0, 2, 3), correction=0))


def test_moments_of_numbers_far_from_zero_lose_nothing() -> None:
    """The mean is subtracted before squares are added up."""
    x = 1e8 + torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    mean, std = Data(x, x, x).moments
    assert (mean.item(), std.item()) == (1e8 + 1, pytest.approx(math.sqrt(2 / 3), rel=1e-12))


def test_pixels_of_zero_and_one_are_told_by_their_type() -> None:
    x = torch.ones(2, 1, 2, 2)
    assert Data(x.bool(), x.bool(), x.bool()).binary and not Data(x.byte(), x.byte(), x.byte(), levels=2).binary


def test_a_coordinate_is_called_by_its_name_or_its_number() -> None:
    x, images = torch.ones(2, 2), torch.ones(2, 3, 4, 4)
    assert Data(x, x, x, columns=("height", "weight")).column(1) == "column 'weight'"
    assert Data(x, x, x).column(1) == "column 2 of 2"
    assert Data(images, images, images).column(0) == "channel 1 of 3"
    assert Data(images, images, images).shape == (3, 4, 4)


# --- targets ----------------------------------------------------------------------------------------------------------


@dataclass(config=STRICT)
class Square(Target):
    """The uniform distribution on [-1, 1]²."""

    names = ("left", "right")

    @property
    def window(self) -> Box:
        return square(1.5)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return 2 * uniform(generator, n, 2) - 1

    def log_prob(self, x: Tensor) -> Tensor:
        return flat(within(x, -1, 1).all(1), -math.log(4))


def test_splits_are_the_targets_own_draws_from_three_streams_of_its_seed() -> None:
    target = Square(name="square", num_train=30, num_valid=20, num_test=10, seed=3)
    data = target.load()
    for k, (found, count) in enumerate(zip((data.train, data.valid, data.test), (30, 20, 10), strict=True)):
        assert torch.equal(found, target.sample(count, seeded(4 * 3 + k)).float())
    assert data.target is target and data.shape == (2,)


def test_pieces_of_a_target_have_equal_mass_unless_it_says_otherwise() -> None:
    assert Square(name="square").components == {"left": 0.5, "right": 0.5}
    assert Square(name="square").component(torch.zeros(3, 2)).tolist() == [-1] * 3
    assert Square(name="square").support is None


def test_the_largest_log_density_is_looked_for_over_the_window() -> None:
    assert Square(name="square").max_log_prob == pytest.approx(-math.log(4))


def test_what_has_nothing_to_download_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"^dataset 'square' has nothing to download: cifrun train dataset=square"):
        Square(name="square").fetch()


def test_a_dataset_has_to_say_how_it_is_loaded() -> None:
    with pytest.raises(TypeError, match="load"):
        AnyDataset(name="x")  # type: ignore[abstract]


# --- densities --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("std", [0.05, 1.0, 7.0])
def test_log_normal_is_that_of_scipy(std: float) -> None:
    x = torch.linspace(-20, 20, 41, dtype=torch.float64)
    torch.testing.assert_close(log_normal(x, std), torch.from_numpy(stats.norm.logpdf(x.numpy(), scale=std)))


def test_draws_are_double_and_those_of_the_generator() -> None:
    for draw in (uniform, normal):
        x = draw(seeded(), 3, 4)
        assert x.shape == (3, 4) and x.dtype == torch.float64
        assert torch.equal(draw(seeded(), 3, 4), x)


@pytest.mark.parametrize("edge", [1e-6, 1 / 3, 0.1, 1e6])
def test_what_rounds_across_an_edge_is_still_within_it(edge: float) -> None:
    just_inside = torch.tensor([edge * (1 - 1e-15), -edge * (1 - 1e-15)], dtype=torch.float64)
    assert within(just_inside.float(), -edge, edge).all()
    assert within(just_inside.float().double(), -edge, edge).all()
    assert not within(torch.tensor([1.001 * edge, -1.001 * edge], dtype=torch.float64), -edge, edge).any()


def test_edges_may_differ_by_point() -> None:
    low, high = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0])
    assert within(torch.tensor([0.5, 0.5]), low, high).tolist() == [True, False]


def test_a_flat_density_is_minus_infinity_outside() -> None:
    found = flat(torch.tensor([True, False]), -1.5)
    assert found.dtype == torch.float64 and found.tolist() == [-1.5, -math.inf]
