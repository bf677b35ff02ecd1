"""What every registered dataset promises: that it loads, the same each time, in splits that do not share their rows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor

from ..data.base import Data, Target
from ..data.checks import check_data
from ..errors import ConfigError
from .promises import NotPromised, hold, require
from .targets import TARGET_CHECKS, DatasetCase

__all__ = ["CHECKS", "TARGET_CHECKS", "DatasetCase", "check_dataset"]

#: What a split may hold.
DTYPES = (torch.float32, torch.uint8, torch.bool)
#: Rows of a split that are compared with others, at most.
MOST = 20_000
#: Share of the test rows that may also be training rows, beyond the share of training rows that occur twice.
SHARED = 0.2


def check_dataset(name: str, **settings: object) -> None:
    """Check that a registered dataset keeps what every dataset promises.

    - It loads, and a density can be learned from it. Its splits are of one shape and one of float32, uint8 and bool,
      and finite. The same settings give the same data, and another seed others, if it has a `seed`.
    - Rows of the training split are not those of the validation or test split.

    Of a `Target`, a distribution on the plane whose density is known, also:

    - The density integrates to one over the window, up to 1 %, and samples have it. This is a χ² test of 20,000 draws,
      which a correct target fails under one seed in 10,000; the seed is fixed, so what passes once passes always.
    - Window and support hold the samples. The log-density is −∞ outside the support and finite elsewhere, float64, and
      the same alone and in a batch; `max_log_prob` is its maximum.
    - Splits are as long as asked for, share no point, are uncorrelated, and are refused if they are empty.

    Arguments:
        name: As in `dataset=NAME`.
        settings: The dataset's settings, as in `dataset.KEY`.

    Raises:
        AssertionError: A promise is broken. The message says which, and by how much.
        ConfigError: There is no such dataset or setting, its value is not allowed, or its files are not there.
        TypeError: The name is no text.

    Example:
        >>> from cifrun.testing import check_dataset
        >>> check_dataset("two_moons", noise=0.2)
    """
    if not isinstance(name, str):
        raise TypeError(f"check_dataset takes the name of a registered dataset, and not {name!r}")
    case = DatasetCase(name, settings)
    checks = chain(CHECKS.values(), TARGET_CHECKS.values() if isinstance(case.dataset, Target) else ())
    hold(checks, case)


def splits(data: Data) -> dict[str, Tensor]:
    """The three splits by what to call them."""
    return {"training": data.train, "validation": data.valid, "test": data.test}


def it_says_what_it_is(case: DatasetCase) -> None:
    """The first line of the docstring is a sentence, which the help shows."""
    cls = type(case.dataset)
    first = (cls.__doc__ or "").strip().partition("\n")[0]
    made = first.startswith(f"{cls.__name__}(")  # by `dataclass`, for a class without one
    promise = "its docstring should begin with a sentence that fills one line of at most 110 characters"
    require(first.endswith((".", ")")) and len(first) <= 110 and not made, promise)


def splits_have_one_form(case: DatasetCase) -> None:
    """One shape, one of three types, and at least one row each."""
    data, allowed = case.data, DTYPES[:1] if isinstance(case.dataset, Target) else DTYPES
    for split, x in splits(data).items():
        what = f"the {split} split"
        require(x.dtype in allowed, f"{what} should be {' or '.join(map(str, allowed))}, but is {x.dtype}")
        require(x.dtype == data.train.dtype, f"{what} should be {data.train.dtype} as training is, but is {x.dtype}")
        shape = tuple(x.shape[1:])
        require(shape == data.shape, f"{what} should hold events of shape {data.shape}, but holds {shape}")
        require(len(x) > 0, f"{what} should not be empty")
        if x.is_floating_point():
            bad = int((~x.isfinite()).sum())
            require(not bad, f"{what} should be finite, but has {bad} values that are not")
        elif data.levels is None or int(x.max()) >= data.levels:
            raise AssertionError(f"{what} should hold less than Data.levels = {data.levels}, but has {int(x.max())}")


def a_density_can_be_learned(case: DatasetCase) -> None:
    """No coordinate is constant or equal to another, and there are enough rows."""
    try:
        check_data(case.data, case.name)
    except ConfigError as error:
        raise AssertionError(f"it should be possible to learn its density, but {error}") from error


def the_same_settings_give_the_same_data(case: DatasetCase) -> None:
    """Bit for bit."""
    again = splits(case.small().load())
    for split, x in splits(case.small().load()).items():
        same = x.shape == again[split].shape and torch.equal(x, again[split])
        require(same, f"the same settings should give the same data, but the {split} split is another the second time")


def another_seed_gives_other_data(case: DatasetCase) -> None:
    """If it has a seed."""
    if not case.has("seed"):
        raise NotPromised("it has no seed")
    one, other = (case.small(seed=seed).load().train for seed in (3, 4))
    same = one.shape == other.shape and torch.equal(one, other)
    require(not same, "another seed should give other data, but the training split is the same for seeds 3 and 4")


def splits_do_not_share_their_rows(case: DatasetCase) -> None:
    """Up to a fifth, beyond what is shared inside of the training split, as rows of few pixels may be."""
    data = case.data
    own = _rows(data.train[:MOST])
    train = set(own)
    twice = 1 - len(train) / len(own)
    for split, x in (("validation", data.valid), ("test", data.test)):
        rows = _rows(x[:MOST])
        shared = sum(row in train for row in rows) / len(rows)
        promise = f"{split} rows should not be training rows"
        require(shared <= twice + SHARED, f"{promise}, but {100 * shared:.0f} % of them are")


def _rows(x: Tensor) -> list[bytes]:
    return [row.tobytes() for row in x.flatten(1).numpy()]


#: Each promise by its name, which its function checks.
CHECKS: dict[str, Callable[[DatasetCase], None]] = {
    check.__name__: check
    for check in (
        it_says_what_it_is,
        splits_have_one_form,
        a_density_can_be_learned,
        the_same_settings_give_the_same_data,
        another_seed_gives_other_data,
        splits_do_not_share_their_rows,
    )
}
