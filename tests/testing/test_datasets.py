"""Each check of a dataset fails for one that breaks its promise, with a sentence that says so, and leaves no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from cifrun.config.fields import STRICT, setting
from cifrun.data.base import AnyDataset, Box, Data, Target, log_normal, normal, square
from cifrun.errors import ConfigError
from cifrun.registry import DATASETS
from cifrun.testing import check_dataset
from cifrun.testing.datasets import CHECKS, TARGET_CHECKS, DatasetCase
from cifrun.testing.promises import NotPromised, keep


@contextmanager
def registered(cls: type[AnyDataset]) -> Iterator[DatasetCase]:
    """Inside, "stranger" is the name of a dataset."""
    assert "stranger" not in DATASETS
    DATASETS.register("stranger")(cls)
    try:
        yield DatasetCase("stranger")
    finally:
        del DATASETS._entries["stranger"]


# --- datasets ---------------------------------------------------------------------------------------------------------


@dataclass(config=STRICT)
class Points(AnyDataset):
    """A few points."""

    seed: int = setting(0, "seed of the draws")

    def load(self) -> Data:
        x = torch.randn(300, 3, generator=torch.Generator().manual_seed(self.seed))
        return Data(*x.split(100))


def loading(made: Callable[[Data], Data], doc: str | None = "Some points.") -> type[AnyDataset]:
    """A dataset that makes something else of the points."""

    def load(self: Points) -> Data:
        return made(Points.load(self))

    return dataclass(config=STRICT)(type("Stranger", (Points,), {"__doc__": doc, "load": load}))


def same(data: Data) -> Data:
    return data


def constant(data: Data) -> Data:
    data.train[:, 1] = 3.0
    return data


def with_nan(data: Data) -> Data:
    data.valid[2, 0] = float("nan")
    return data


def bytes_of(data: Data, levels: int | None) -> Data:
    return Data(*(x.clamp(0, 20).mul(10).byte() for x in (data.train, data.valid, data.test)), levels=levels)


def any_seed(_: Data) -> Data:
    return Points(name="stranger").load()


OF_ANY = [
    ("it_says_what_it_is", loading(same, None), "docstring should begin with a sentence"),
    ("it_says_what_it_is", loading(same, f"{'Very ' * 30}long."), "at most 110 characters"),
    ("splits_have_one_form", loading(lambda d: Data(d.train, d.valid, d.test[:, :2])), r"\(3,\), but holds \(2,\)"),
    ("splits_have_one_form", loading(lambda d: Data(d.train, d.valid, d.test[:0])), "test split should not be empty"),
    ("splits_have_one_form", loading(lambda d: Data(d.train, d.valid.double(), d.test)), "but is torch.float64"),
    (
        "splits_have_one_form",
        loading(lambda d: Data(d.train, d.valid > 0, d.test)),
        "as training is, but is torch.bool",
    ),
    ("splits_have_one_form", loading(with_nan), "validation split should be finite, but has 1 values that are not"),
    ("splits_have_one_form", loading(lambda d: bytes_of(d, None)), "less than Data.levels = None"),
    ("splits_have_one_form", loading(lambda d: bytes_of(d, 4)), r"less than Data.levels = 4, but has \d\d"),
    ("a_density_can_be_learned", loading(constant), "column 2 of 3 is constant in the training data"),
    (
        "the_same_settings_give_the_same_data",
        loading(lambda d: Data(d.train, d.valid, torch.randn(9, 3))),
        "but the test split is another the second time",
    ),
    ("another_seed_gives_other_data", loading(any_seed), "training split is the same for seeds 3 and 4"),
    (
        "splits_do_not_share_their_rows",
        loading(lambda d: Data(d.train, d.valid, torch.cat([d.train[:60], d.test[:40]]))),
        "test rows should not be training rows, but 60 % of them are",
    ),
    ("splits_do_not_share_their_rows", loading(lambda d: Data(d.train, d.train, d.test)), "validation rows .* 100 %"),
]


# --- targets ----------------------------------------------------------------------------------------------------------


@dataclass(config=STRICT)
class Blob(Target):
    """A standard normal distribution."""

    window = property(lambda self: square(5.5))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return normal(generator, n, 2)

    def log_prob(self, x: Tensor) -> Tensor:
        return log_normal(x.double()).sum(-1)


def that(**methods: Any) -> type[Target]:
    """A blob with other methods."""
    return dataclass(config=STRICT)(type("Stranger", (Blob,), {"__doc__": "A blob.", **methods}))


def densities(change: Callable[[Blob, Tensor, Tensor], Tensor]) -> type[Target]:
    """A blob whose log-density is what `change` makes of it and of x."""
    return that(log_prob=lambda self, x: change(self, x, Blob.log_prob(self, x)))


def draws(change: Callable[[Tensor], Tensor]) -> type[Target]:
    """A blob whose draws are what `change` makes of them."""
    return that(sample=lambda self, n, generator: change(Blob.sample(self, n, generator)))


def box(half: float) -> property:
    def value(self: Target) -> Box:
        return square(half)

    return property(value)


def mapped_to_one_stream(self: Target) -> Data:
    """Of all splits the same draws, a little apart."""
    x = Blob.sample(self, max(self.num_train, self.num_valid, self.num_test), torch.Generator().manual_seed(self.seed))
    sizes = (self.num_train, self.num_valid, self.num_test)
    return Data(*((x[:n] + 0.01 * k).float() for k, n in enumerate(sizes)), target=self)


OF_TARGETS = [
    ("draws_and_densities_have_their_shapes", draws(lambda x: x.float()), "a sample of 20000 should be float64 and of"),
    ("draws_and_densities_have_their_shapes", densities(lambda s, x, p: p[:, None]), r"shape \(20000,\), but is"),
    (
        "draws_and_densities_have_their_shapes",
        densities(lambda s, x, p: p.masked_fill(x[:, 0] > 3, -torch.inf)),
        r"log_prob of a sample should be finite, but \d+ values are not",
    ),
    (
        "draws_and_densities_have_their_shapes",
        densities(lambda s, x, p: p if x.dtype == torch.float64 else p - torch.inf),
        "rounding a draw to float32 should .*, but log_prob of 20000 of 20000 is not finite",
    ),
    ("the_density_integrates_to_one", densities(lambda s, x, p: p + 0.02), r"1 ± 0\.01 over the window, .* is 1\.02"),
    ("samples_have_the_density", draws(lambda x: 1.05 * x), r"20,000 draws should have the density, but χ² .* p = "),
    ("samples_have_the_density", that(window=property(lambda self: ((40, 50), (40, 50)))), "next to nothing"),
    ("the_window_holds_the_samples", that(window=box(3)), r"but \d\d+ of 20000 draws are outside"),
    ("the_support_is_where_the_density_is", that(support=box(3)), r"hold all samples, but \d\d+ of 20000 are outside"),
    ("the_support_is_where_the_density_is", that(support=box(5)), "should be -inf, but is not at .* points"),
    (
        "the_support_is_where_the_density_is",
        densities(lambda s, x, p: p.masked_fill(x.abs().amax(-1) > 6, -torch.inf)),
        "finite on the whole plane, but it is not at",
    ),
    (
        "a_point_alone_has_the_density_of_a_batch",
        densities(lambda s, x, p: p + 1e-3 * x.double().mean()),
        "the same alone and in a batch, but they differ by up to",
    ),
    (
        "max_log_prob_is_the_largest",
        that(max_log_prob=property(lambda self: 0.0)),
        r"within 0\.1 of -1\.838, the largest log-density of 20,000 draws, but is 0",
    ),
    (
        "more_nodes_change_nothing",
        densities(lambda s, x, p: p + 1e-3 / s.resolution),
        "twice the `resolution` should change no log_prob, but they differ by up to 0.0005",
    ),
    (
        "splits_share_no_point",
        draws(lambda x: x.round(decimals=1)),
        r"share no point, but \d+ of 3000 points are not new",
    ),
    (
        "splits_share_no_point",
        that(load=lambda self: Points(name="p").load()),
        r"have 700, 300 and 500 points, .* 100, 1",
    ),
    ("splits_are_uncorrelated", that(load=mapped_to_one_stream), r"but have a correlation of (1|0\.9\d*)"),
    (
        "empty_splits_are_refused",
        that(__annotations__={"num_train": "int"}, num_train=setting(10_000, "training points")),
        "num_train = 0 should be refused with a ConfigError that names it, but is taken",
    ),
]


# --- the tests --------------------------------------------------------------------------------------------------------


def test_every_check_has_something_that_fails_it() -> None:
    assert {promise for promise, *_ in OF_ANY} == set(CHECKS)
    assert {promise for promise, *_ in OF_TARGETS} == set(TARGET_CHECKS)


@pytest.mark.parametrize(
    ("promise", "cls", "sentence"), [*OF_ANY, *OF_TARGETS], ids=[promise for promise, *_ in (*OF_ANY, *OF_TARGETS)]
)
def test_a_broken_promise_is_found(promise: str, cls: type[AnyDataset], sentence: str) -> None:
    with registered(cls) as case:
        with pytest.raises(AssertionError, match=f"^dataset 'stranger': .*{sentence}") as error:
            keep({**CHECKS, **TARGET_CHECKS}[promise], case)
        with pytest.raises(AssertionError, match=r"^dataset 'stranger': "):
            check_dataset("stranger")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("cls", [Points, Blob, loading(lambda d: bytes_of(d, 40))])
def test_a_dataset_that_keeps_them_passes(cls: type[AnyDataset]) -> None:
    random = torch.get_rng_state()
    with registered(cls):
        check_dataset("stranger", seed=5)
    assert torch.equal(torch.get_rng_state(), random)
    assert "stranger" not in DATASETS


@pytest.mark.parametrize("name", ["checkerboard", "two_marginals", "two_lines", "iris", "wine", "digits"])
def test_the_projects_own_pass_as_a_strangers_would(name: str) -> None:
    """Also with a point at random in each cell, and of tables and images, where few values occur again and again."""
    check_dataset(name)


def test_binary_images_pass_though_rows_may_be_the_same() -> None:
    check_dataset("digits", binarize=True)


def test_what_is_no_target_has_no_density_to_check() -> None:
    with pytest.raises(NotPromised, match="its density is not known"):
        keep(TARGET_CHECKS["the_density_integrates_to_one"], DatasetCase("iris"))


def test_settings_are_those_of_the_dataset() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.nois.*noise"):
        check_dataset("two_moons", nois=1)
    with pytest.raises(ConfigError, match="there is no dataset 'two_mons'"):
        check_dataset("two_mons")
