"""Whether a density can be learned from some data: what can't be is one sentence, before anything is trained."""

from __future__ import annotations

import hashlib
import math
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import ConfigError
from .base import Data
from .pieces import total, values

PRECISION = torch.finfo(torch.float32)
#: Of numbers beyond this, single precision rounds away what may matter.
LARGE = 1e3


def check_data(data: Data, name: str) -> Data:
    """These data of the dataset `name`, if a density can be learned from them.

    Raises:
        ConfigError: A split is empty or not finite; there are fewer than two training points; or a coordinate is
            constant, equal to another, or what single precision can't tell from a constant.
    """
    for split, x in (("training", data.train), ("validation", data.valid), ("test", data.test)):
        _check_form(data, name, split, x)
        _check_finite(data, name, split, x)
    _check_spread(data, name)
    _check_twins(data, name)
    return data


def _check_form(data: Data, name: str, split: str, x: Tensor) -> None:
    least = 2 if split == "training" else 1
    if len(x) < least:
        count = f"{len(x)} {split} point{'s' if len(x) != 1 else ''}"
        raise ConfigError(f"dataset '{name}' has {count}: it needs at least {least}")
    if tuple(x.shape[1:]) != data.shape or x.ndim < 2 or 0 in x.shape:
        raise ConfigError(
            f"dataset '{name}' holds {split} events of shape {tuple(x.shape[1:])}, and training events of "
            f"shape {data.shape}: both should be the same, with at least one number"
        )


def _check_finite(data: Data, name: str, split: str, x: Tensor) -> None:
    if not x.is_floating_point():
        return
    bad = total((~piece.isfinite()).sum(1) for piece in values(x))
    if bool(bad.any()):
        k = int(bad.nonzero()[0])
        raise ConfigError(
            f"dataset '{name}': {data.column(k)} of the {split} data holds {int(bad[k])} values "
            f"that are not finite: remove them or fill them in"
        )


def _check_spread(data: Data, name: str) -> None:
    """Each coordinate of the training data varies, by as much as single precision can tell."""
    means, stds = (m.tolist() for m in data.moments)
    precision = torch.finfo(data.train.dtype) if data.train.is_floating_point() else PRECISION
    first = data.train[:1].transpose(0, 1).flatten(1)[:, :1]
    differ = total((piece != first).sum(1) for piece in values(data.train))
    for k, (mean, std) in enumerate(zip(means, stds, strict=True)):
        column = f"dataset '{name}': {data.column(k)}"
        if differ[k] == 0:
            what = f"{column} is constant in the training data, and so has no density: leave it out"
            if abs(mean) > LARGE:  # what differs may have been rounded away
                what += f", or, if its numbers differ from {mean:.9g} in later digits, subtract that first"
            raise ConfigError(what)
        if std < 8 * precision.eps * abs(mean):
            raise ConfigError(
                f"{column} varies by {std:.1e} around {mean:.6g}, less than single precision can tell: "
                f"subtract its mean"
            )
        if not PRECISION.tiny < std < PRECISION.max**0.5:
            raise ConfigError(f"{column} has a standard deviation of {std:.1e}: change its unit")


def _check_twins(data: Data, name: str) -> None:
    """No coordinate of the training data is equal to another: each number is looked at once, however many there are."""
    which = _of_one_spread(data.moments[1].tolist())
    digests = {k: hashlib.blake2b(digest_size=16) for k in which}
    if not which:
        return
    for x in values(data.train):
        rows = x[which].contiguous()
        rows = rows + 0.0 if rows.is_floating_point() else rows  # where −0 is 0
        for k, row in zip(which, rows.cpu().numpy(), strict=True):
            digests[k].update(row.data)
    first: dict[bytes, int] = {}
    for k in which:
        j = first.setdefault(digests[k].digest(), k)
        if j != k:
            raise ConfigError(
                f"dataset '{name}': {data.column(k)} is equal to {data.column(j)}, so no density holds both: "
                f"leave one out"
            )


def _of_one_spread(stds: list[float]) -> list[int]:
    """The coordinates whose standard deviation is that of another, to rounding, in order."""
    order = sorted(range(len(stds)), key=stds.__getitem__)
    alike = {k for pair in pairwise(order) if math.isclose(stds[pair[0]], stds[pair[1]], rel_tol=1e-6) for k in pair}
    return sorted(alike)
