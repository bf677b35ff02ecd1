"""What every registered flow promises, plain and indexed, in every dimension where it is defined.

A flow is covered by being registered: `cifrun.testing.flows`, where each promise is written down, makes its settings
small, and builds it for vectors of 1, 2 and 5 numbers, or for small images of 1 and 3 channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from cifrun.registry import FLOWS
from cifrun.testing.flows import CHECKS, FAMILY_CHECKS, GPU_CHECKS, Family, FlowCase
from cifrun.testing.promises import NotPromised, keep

T = TypeVar("T")

FAMILIES = [Family(name) for name in FLOWS]
CASES = [case for family in FAMILIES for case in family.cases()]
ONE_SHAPE = [case for case in CASES if case.shape in [(2,), (3, 4, 4)]]
NORMED = [case for case in ONE_SHAPE if case.indexed]
#: Promises that are made in some cases only, and which these are; derivatives of draws have tests of their own.
SOME = {
    "draws_have_the_derivatives_of_an_inverse": ONE_SHAPE,
    "the_density_integrates_to_one": [case for case in CASES if case.shape == (2,)],
    "with_actnorm_it_trains_and_inverts": NORMED,
    "with_batchnorm_it_trains_and_inverts": NORMED,
}


def kept(check: Callable[[T], None], thing: T) -> None:
    """The test passes if the promise is kept, and is skipped if it is not made."""
    try:
        keep(check, thing)
    except NotPromised as reason:
        pytest.skip(str(reason))


def every(checks: dict[str, Callable[[FlowCase], None]]) -> pytest.MarkDecorator:
    """Each promise in each case where it is made."""
    pairs = [(promise, case) for promise in checks for case in SOME.get(promise, CASES)]
    ids = [f"{promise}-{case.id}" for promise, case in pairs]
    return pytest.mark.parametrize(("promise", "case"), pairs, ids=ids)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("promise", FAMILY_CHECKS)
def test_a_family_keeps_its_promise(promise: str, family: Family) -> None:
    kept(FAMILY_CHECKS[promise], family)


@every(CHECKS)
def test_a_flow_keeps_its_promise(promise: str, case: FlowCase) -> None:
    kept(CHECKS[promise], case)


@pytest.mark.gpu
@every(GPU_CHECKS)
def test_a_flow_keeps_its_promise_on_a_gpu(promise: str, case: FlowCase) -> None:
    kept(GPU_CHECKS[promise], case)
