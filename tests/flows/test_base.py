"""What flows share: the shapes that they refuse, and what stands between their steps."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pydantic.dataclasses import dataclass

from cifrun.bijections.base import Bijection
from cifrun.bijections.linear import ElementwiseAffine, LULinear
from cifrun.bijections.norm import ActNorm, BatchNorm
from cifrun.bijections.permutation import Flip, Permutation
from cifrun.config.fields import STRICT
from cifrun.errors import ConfigError
from cifrun.flows.base import FlowConfig, flipped, mixed, with_norm


@dataclass(config=STRICT)
class Halves(FlowConfig):
    """A flow of couplings."""

    def build(self, shape: Sequence[int]) -> list[Bijection]:
        return [ElementwiseAffine(self.flat(shape, 2))]


def affine(count: int) -> list[Bijection]:
    return [ElementwiseAffine((3,)) for _ in range(count)]


def kinds(steps: Sequence[Bijection]) -> list[type[Bijection]]:
    return [type(step) for step in steps]


def test_events_that_are_no_vectors_are_refused_with_their_shape() -> None:
    flow = Halves(family="halves")
    assert flow.build((2,))[0].shape == (2,)
    with pytest.raises(ConfigError, match=r"^flow 'halves' models vectors, but an event .* has shape \(3, 4, 4\)$"):
        flow.build((3, 4, 4))
    with pytest.raises(ConfigError, match=r"^flow 'halves' needs at least 2 dimensions, but was given 1: a coupling"):
        flow.build((1,))
    with pytest.raises(ConfigError, match=r"^flow 'Halves' models vectors"):
        Halves().build(())


@pytest.mark.parametrize(("name", "kind"), [("actnorm", ActNorm), ("batchnorm", BatchNorm)])
def test_a_norm_stands_after_each_step_that_takes_an_index(name: str, kind: type[Bijection]) -> None:
    steps = [*affine(1), Flip((3,)), *affine(1)]
    found = with_norm(steps, name)  # type: ignore[arg-type]
    assert kinds(found) == [ElementwiseAffine, kind, Flip, ElementwiseAffine, kind]
    assert [step for step in found if type(step) is not kind] == steps
    assert with_norm(steps, "none") == steps


def test_coordinates_are_reversed_between_steps() -> None:
    assert kinds(flipped(affine(3))) == [ElementwiseAffine, Flip, ElementwiseAffine, Flip, ElementwiseAffine]
    assert kinds(flipped(with_norm(affine(2), "actnorm"))) == [
        ElementwiseAffine, ActNorm, Flip, ElementwiseAffine, ActNorm,
    ]  # fmt: skip


def test_coordinates_are_mixed_before_each_step_and_after_the_last() -> None:
    assert kinds(mixed(affine(1), linear=False)) == [Permutation, ElementwiseAffine, Permutation]
    assert kinds(mixed(affine(1), linear=True)) == [Permutation, LULinear, ElementwiseAffine, Permutation, LULinear]
    norms = with_norm(affine(1), "batchnorm")
    assert kinds(mixed(norms, linear=False)) == [Permutation, ElementwiseAffine, BatchNorm, Permutation]
