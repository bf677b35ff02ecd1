"""Each check of a bijection fails for one that breaks its promise, with the sentence that says so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cifrun.bijections.base import Bijection
from cifrun.bijections.bernoulli import BernoulliDecoder
from cifrun.bijections.linear import LULinear
from cifrun.bijections.preprocess.pixels import Logit
from cifrun.bijections.residual import ResidualBlock
from cifrun.nets.lipschitz.networks import LipschitzMLP
from cifrun.testing import check_bijection
from cifrun.testing.bijections import CHECKS, BijectionCase
from cifrun.testing.promises import keep
from tests.testing import broken_bijections as broken

BROKEN = [
    ("shapes", broken.ColumnOfLogDets, r"the log-determinant should have the shape \(6,\), but has \(6, 1\)"),
    ("shapes", broken.AlwaysSingle, "z should be torch.float64 as x is, but is torch.float32"),
    ("shapes", broken.NoInverse, "the inverse should be finite, but is not"),
    (
        "log_det_is_that_of_autograd",
        broken.WrongLogDet,
        "Jacobian, but they differ by up to .*, where 1e-06 is allowed",
    ),
    ("round_trip", broken.WrongInverse, r"inverse\(forward\(x\)\) should be x in double precision, but .* up to"),
    ("round_trip_in_single_precision", broken.Cancels, r"inverse\(forward\(x\)\) should be x in single precision"),
    ("gradients_reach_every_parameter", broken.Idle, "reach every parameter, but 'idle' has none"),
    ("gradients_reach_every_parameter", broken.InfiniteSlope, "that of 'root' has 2 values that are not"),
    ("gradient_of_the_log_det_is_right", broken.ConstantLogDet, "gradient of the log-determinant .* finite difference"),
    (
        "inverse_has_the_derivatives_of_an_inverse",
        broken.DetachedInverse,
        "derivative of the identity, but they differ",
    ),
    ("inverse_has_the_derivatives_of_an_inverse", broken.HalfDetached, "should have the derivative 0 in 'log_scale'"),
    (
        "wrong_shapes_are_refused",
        broken.Unchecked,
        r"refuse a tensor of shape \(3, 2, 1\) .* \(2,\), but .* RuntimeError",
    ),
    ("wrong_shapes_are_refused", broken.TakesAll, r"ValueError that names it and \(2,\), but takes it"),
    ("wrong_shapes_are_refused", broken.SaysLittle, "names it and .*, but says: no"),
    ("rows_do_not_mix", broken.Mixes, "z of a row should depend on no other row"),
    ("rows_do_not_mix", broken.MixesLogDets, "the log-determinant of a row should depend on no other row"),
    ("an_empty_batch_works", broken.NeverEmpty, r"of no rows the shapes should be .*, but are .*\(1,\)"),
    ("copies_give_the_same", broken.Unsaved, "another instance with its state should give the same z"),
    ("copies_give_the_same", broken.Unpicklable, "it should be possible to pickle it, but"),
    ("description_is_one_line", broken.TwoLines, r"describe\(\) should be one line, but is 2"),
    ("description_is_one_line", broken.Nameless, r"describe\(\) should be one line, but is 0"),
]


def test_every_check_has_something_that_fails_it() -> None:
    assert {promise for promise, _, _ in BROKEN} == set(CHECKS)


@pytest.mark.parametrize(("promise", "kind", "sentence"), BROKEN, ids=[f"{row[0]}-{row[1].__name__}" for row in BROKEN])
def test_a_broken_promise_is_found(promise: str, kind: type[Bijection], sentence: str) -> None:
    with pytest.raises(AssertionError, match=f"^{kind.__name__}: .*{sentence}") as error:
        keep(CHECKS[promise], BijectionCase(kind))
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(AssertionError, match=f"^{kind.__name__}: "):
        check_bijection(kind)


def test_a_bijection_that_keeps_them_is_left_as_it_is() -> None:
    bijection = broken.Stretch()
    state = {key: value.clone() for key, value in bijection.state_dict().items()}
    random = torch.get_rng_state()
    check_bijection(bijection)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[key]) for key, value in bijection.state_dict().items())
    assert bijection.training and bijection.log_scale.dtype == torch.float32 and bijection.log_scale.grad is None


def test_a_map_that_is_not_defined_for_all_numbers_is_given_some() -> None:
    with pytest.raises(AssertionError, match="not defined for all numbers, give it x"):
        check_bijection(lambda: Logit((1, 2, 2), 17))
    generator = torch.Generator().manual_seed(0)
    check_bijection(lambda: Logit((1, 2, 2), 17), 17 * torch.rand(6, 1, 2, 2, generator=generator))


@pytest.mark.parametrize("promise", ["round_trip", "gradient_of_the_log_det_is_right", "copies_give_the_same"])
def test_what_is_found_by_iteration_is_prepared(promise: str) -> None:
    """Norms of weights are found by iteration, before a map is used and whenever its parameters move."""
    keep(CHECKS[promise], BijectionCase(lambda: ResidualBlock((2,), LipschitzMLP(2, [8], 0.9))))


def test_without_spread_parameters_stay() -> None:
    """A wrong term that is zero at first is found only away from there."""
    check_bijection(broken.WrongLogDet, spread=0)
    with pytest.raises(AssertionError):
        check_bijection(broken.WrongLogDet)


def test_what_is_no_bijection() -> None:
    for wrong in (lambda: nn.Linear(2, 2), nn.Linear(2, 2)):
        with pytest.raises(TypeError, match=r"takes a cifrun\.bijections\.base\.Bijection, .* a Linear"):
            check_bijection(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"takes a cifrun\.bijections\.base\.Bijection, .* missing 1 required"):
        check_bijection(LULinear)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="BernoulliDecoder draws what it returns"):
        check_bijection(BernoulliDecoder((1, 2, 2), 2, [4]))
