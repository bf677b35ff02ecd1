"""What every target promises: its density is a density, its samples come from it, and its splits are draws of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import chdtrc
from torch import Tensor

from ..config.schema import check
from ..data.base import AnyDataset, Box, Data, Target, within
from ..errors import ConfigError
from ..registry import DATASETS
from .promises import NotPromised, close, require

__all__ = ["TARGET_CHECKS", "DatasetCase"]

#: Draws of a target, and bins a side in which they are counted.
DRAWS, BINS = 20_000, 12
#: Cells of the window, a multiple of BINS, with a point at random in each.
CELLS = 600
#: Sizes of a small copy, for datasets that have such settings.
SIZES = {"num_train": 500, "num_valid": 100, "num_test": 100}


class Grid(NamedTuple):
    """A point in each cell of a window, the log-density there, and the area of a cell."""

    x: Tensor  # (n₁, n₂, 2)
    log_prob: Tensor  # (n₁, n₂)
    area: float


class DatasetCase:
    """A registered dataset to check.

    Arguments:
        name: As in `dataset=NAME`.
        settings: The dataset's settings.
        cells: Of the window of a target, of whose density the midpoints are taken, as suits smooth ones, and such whose
            edges lie between cells; None for very many with a point at random in each, which suits all.
        mass_error: How far from one the integral may be.

    Raises:
        ConfigError: There is no such dataset or setting, or its value is not allowed.
    """

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any] | None = None,
        cells: tuple[int, int] | None = None,
        mass_error: float = 1e-2,
    ) -> None:
        self.name, self.settings, self.cells, self.mass_error = name, dict(settings or {}), cells, mass_error
        self.dataset = self.make()

    def __str__(self) -> str:
        return f"dataset '{self.name}'"

    def has(self, key: str) -> bool:
        """Whether the dataset has such a setting."""
        return key in {f.name for f in dataclasses.fields(DATASETS[self.name])}

    def make(self, **settings: Any) -> AnyDataset:
        """The dataset with other settings.

        Raises:
            ConfigError: A setting is not allowed.
        """
        return check(DATASETS[self.name], {"name": self.name, **self.settings, **settings}, "dataset")

    def small(self, **settings: Any) -> AnyDataset:
        """The dataset with few rows, if it has settings for that."""
        return self.make(**{key: size for key, size in SIZES.items() if self.has(key)}, **settings)

    @cached_property
    def data(self) -> Data:
        """All of it.

        Raises:
            ConfigError: It can't be loaded.
        """
        return self.dataset.load()

    @property
    def target(self) -> Target:
        """The dataset, if it is a target.

        Raises:
            NotPromised: It is not.
        """
        if not isinstance(self.dataset, Target):
            raise NotPromised("its density is not known")
        return self.dataset

    @cached_property
    def draws(self) -> Tensor:
        """20,000 draws."""
        return self.target.sample(DRAWS, torch.Generator().manual_seed(1))

    @cached_property
    def grid(self) -> Grid:
        """The log-density all over the window."""
        counts = self.cells or (CELLS, CELLS)
        size = [(high - low) / n for (low, high), n in zip(self.target.window, counts, strict=True)]
        axes = [torch.arange(n, dtype=torch.float64) for n in counts]
        place = torch.cartesian_prod(*axes)
        generator = torch.Generator().manual_seed(0)
        place += 0.5 if self.cells else torch.rand(place.shape, generator=generator, dtype=place.dtype)
        low = torch.tensor([low for low, _ in self.target.window], dtype=place.dtype)
        x = low + place * torch.tensor(size, dtype=place.dtype)
        log_prob = torch.cat([self.target.log_prob(part) for part in x.split(100_000)])
        return Grid(x.unflatten(0, counts), log_prob.double().view(counts), size[0] * size[1])


def inside(x: Tensor, box: Box) -> Tensor:
    """Whether each point lies in the box, up to the rounding of a float32, as a density may have it."""
    low, high = torch.tensor(box, dtype=torch.float64).T
    return within(x, low, high).all(-1)


# --- the density ------------------------------------------------------------------------------------------------------


def draws_and_densities_have_their_shapes(case: DatasetCase) -> None:
    """Draws are (n, 2), log-densities (n,), both float64 and finite; those of points rounded to float32 too."""
    x = case.draws
    log_prob = case.target.log_prob(x)
    for what, found, shape in (("a sample", x, (DRAWS, 2)), ("log_prob of a sample", log_prob, (DRAWS,))):
        form = f"{what} of {DRAWS} should be float64 and of shape {shape}"
        right = found.shape == shape and found.dtype == torch.float64
        require(right, f"{form}, but is {found.dtype} and of shape {tuple(found.shape)}")
        bad = int((~found.isfinite()).sum())
        require(not bad, f"{what} should be finite, but {bad} values are not")
    empty = tuple(case.target.log_prob(x[:0]).shape)
    require(empty == (0,), f"log_prob of no points should have the shape (0,), but has {empty}")
    bad = int((~case.target.log_prob(x.float()).isfinite()).sum())
    promise = "rounding a draw to float32 should bring it across no edge of the density (see `cifrun.data.base.within`)"
    require(not bad, f"{promise}, but log_prob of {bad} of {DRAWS} is not finite")


def the_density_integrates_to_one(case: DatasetCase) -> None:
    """Over the window, by one point in each of many cells."""
    _, log_prob, area = case.grid
    mass = log_prob.exp().sum().item() * area
    promise = f"the density should integrate to 1 ± {case.mass_error:g} over the window"
    require(abs(mass - 1) <= case.mass_error, f"{promise}, but its integral is {mass:.6g}")


def samples_have_the_density(case: DatasetCase) -> None:
    """χ² of 20,000 draws in 12 × 12 bins, those that expect fewer than 5 put together with what lies outside.

    Fails at p < 1e-4: a false alarm under one fresh seed in 10,000.
    """
    x, (_, log_prob, area) = case.draws, case.grid
    rows, columns = (n // BINS for n in log_prob.shape)
    share = log_prob.exp().unflatten(1, (BINS, columns)).unflatten(0, (BINS, rows)).sum((1, 3)).numpy() * area
    observed = np.histogramdd(x.numpy(), bins=(BINS, BINS), range=case.target.window)[0]
    expected = share * len(x)
    large = expected >= 5
    require(large.any(), "the window should hold the mass, but the density in it is next to nothing")
    counts = np.append(observed[large], len(x) - observed[large].sum())
    means = np.append(expected[large], max(len(x) - expected[large].sum(), 1e-3))
    if means[-1] < 5:  # too little for a bin of its own: goes to the smallest
        smallest = means[:-1].argmin()
        counts[smallest], means[smallest] = counts[smallest] + counts[-1], means[smallest] + means[-1]
        counts, means = counts[:-1], means[:-1]
    chi2, free = ((counts - means) ** 2 / means).sum(), len(means) - 1
    p = float(chdtrc(free, chi2)) if free else float(chi2 < 1)
    promise = f"{DRAWS:,} draws should have the density"
    require(p > 1e-4, f"{promise}, but χ² of their counts is {chi2:.0f} in {free} degrees of freedom, p = {p:.1g}")


def the_window_holds_the_samples(case: DatasetCase) -> None:
    """A correct window loses one of 20,000 draws in at most 2 seeds of 100."""
    lost = int((~inside(case.draws, case.target.window)).sum())
    require(
        not lost, f"the window should hold all but a millionth of the mass, but {lost} of {DRAWS} draws are outside"
    )


def the_support_is_where_the_density_is(case: DatasetCase) -> None:
    """Samples are inside, and the density outside is 0; without a support it is nowhere 0."""
    target = case.target
    far = 20 * torch.randn(500, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    if target.support is None:
        bad = int((~target.log_prob(far).isfinite()).sum())
        promise = "without a support, log_prob should be finite on the whole plane"
        require(not bad, f"{promise}, but it is not at {bad} of {len(far)} far points")
        return
    lost = int((~inside(case.draws, target.support)).sum())
    require(not lost, f"the support should hold all samples, but {lost} of {DRAWS} are outside")
    x, log_prob, _ = case.grid
    far = far[~inside(far, target.support)]
    outside = torch.cat([log_prob[~inside(x, target.support)], target.log_prob(far)])
    wrong = int((outside != -math.inf).sum())
    require(not wrong, f"outside the support log_prob should be -inf, but is not at {wrong} of {len(outside)} points")


def a_point_alone_has_the_density_of_a_batch(case: DatasetCase) -> None:
    """Up to rounding."""
    x = case.draws[:5000]
    whole = case.target.log_prob(x)
    alone = torch.cat([case.target.log_prob(x[i : i + 1]) for i in (0, 17, len(x) - 1)])
    close(alone, whole[[0, 17, -1]], "log_prob of a point should be the same alone and in a batch", atol=1e-9)


def max_log_prob_is_the_largest(case: DatasetCase) -> None:
    """Up to 0.1, the largest that 20,000 draws meet."""
    found, largest = case.target.max_log_prob, case.target.log_prob(case.draws).max().item()
    promise = f"max_log_prob should be within 0.1 of {largest:.4g}, the largest log-density of {DRAWS:,} draws"
    require(abs(found - largest) <= 0.1, f"{promise}, but is {found:.4g}")


def more_nodes_change_nothing(case: DatasetCase) -> None:
    """Twice the nodes of a numerical integral: the same log p to 1e-4 where p exceeds a millionth of its maximum."""
    x, log_prob, _ = case.grid
    points = torch.cat([case.draws[:5000], x[:: len(x) // 100, :: x.shape[1] // 100].flatten(0, 1)])
    before = case.target.log_prob(points)
    kept = before > log_prob.max() - math.log(1e6)
    finer = case.make()
    object.__setattr__(finer, "resolution", 2)
    after = finer.log_prob(points[kept]) if isinstance(finer, Target) else before[kept]
    close(after, before[kept], "twice the `resolution` should change no log_prob", atol=1e-4)


# --- the splits -------------------------------------------------------------------------------------------------------


def splits_share_no_point(case: DatasetCase) -> None:
    """Of two seeds, splits of the lengths that were asked for hold as many different points."""
    sizes = {"num_train": 700, "num_valid": 300, "num_test": 500}
    data = [case.make(**sizes, seed=seed).load() for seed in (0, 1)]
    splits = [split for d in data for split in (d.train, d.valid, d.test)]
    lengths = [len(split) for split in splits]
    require(lengths == [*sizes.values()] * 2, f"splits should have 700, 300 and 500 points, but have {lengths[:3]}")
    different, total = len(torch.cat(splits).unique(dim=0)), sum(lengths)
    require(different == total, f"splits should share no point, but {total - different} of {total} points are not new")
    known = data[0].shape == (2,) and data[0].target == case.make(**sizes, seed=0)
    require(known, "its Data should be points of the plane, and have the dataset as their target")


def splits_are_uncorrelated(case: DatasetCase) -> None:
    """Row by row, two splits of 2000 points have a correlation below 5/√2000 in every coordinate."""
    data = case.make(num_train=2000, num_valid=2000, num_test=2000).load()
    correlation = np.corrcoef(torch.cat([data.train, data.valid, data.test], -1).numpy().T)
    same_split = np.kron(np.eye(3), np.ones((2, 2))).astype(bool)
    largest = np.abs(correlation[~same_split]).max()
    require(largest < 5 / math.sqrt(2000), f"splits should be uncorrelated, but have a correlation of {largest:.2g}")


def empty_splits_are_refused(case: DatasetCase) -> None:
    """With a `ConfigError` that names the setting."""
    for key in ("num_train", "num_valid", "num_test"):
        promise = f"{key} = 0 should be refused with a ConfigError that names it"
        try:
            case.make(**{key: 0})
        except ConfigError as error:
            require(key in str(error), f"{promise}, but the error says: {error}")
        else:
            raise AssertionError(f"{promise}, but is taken")


#: Each promise by its name, which its function checks.
TARGET_CHECKS: dict[str, Callable[[DatasetCase], None]] = {
    check.__name__: check
    for check in (
        draws_and_densities_have_their_shapes,
        the_density_integrates_to_one,
        samples_have_the_density,
        the_window_holds_the_samples,
        the_support_is_where_the_density_is,
        a_point_alone_has_the_density_of_a_batch,
        max_log_prob_is_the_largest,
        more_nodes_change_nothing,
        splits_share_no_point,
        splits_are_uncorrelated,
        empty_splits_are_refused,
    )
}
