"""Each check of a flow fails for one that breaks its promise, with the sentence that says so, and leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from pydantic.dataclasses import dataclass

from cifrun.bijections.base import Bijection
from cifrun.config.fields import STRICT
from cifrun.errors import ConfigError
from cifrun.flows.base import FlowConfig, with_norm
from cifrun.registry import FLOWS
from cifrun.testing import check_flow
from cifrun.testing.flows import CHECKS, FAMILY_CHECKS, Family
from cifrun.testing.promises import NotPromised, keep
from tests.testing import broken_bijections as broken


@contextmanager
def registered(cls: type[FlowConfig]) -> Iterator[Family]:
    """Inside, "stranger" is the name of a flow."""
    assert "stranger" not in FLOWS
    FLOWS.register("stranger")(cls)
    try:
        yield Family("stranger")
    finally:
        del FLOWS._entries["stranger"]


def made_of(bijection: type[broken.Stretch]) -> type[FlowConfig]:
    """A flow of one kind of step, for vectors of two numbers."""

    class Stranger(FlowConfig):
        """Steps of one kind."""

        def build(self, shape: Sequence[int]) -> list[Bijection]:
            if self.flat(shape) != (2,):
                raise ConfigError(f"flow '{self.family}' models the plane, but was given {tuple(shape)}")
            return with_norm([bijection() for _ in range(self.depth)], self.norm)

    return dataclass(config=STRICT)(Stranger)


def that(**methods: Any) -> type[FlowConfig]:
    """A flow that keeps all promises, with other methods."""
    return dataclass(config=STRICT)(type("Stranger", (made_of(broken.Stretch),), {"__doc__": "Steps.", **methods}))


def refuses(error: Exception) -> type[FlowConfig]:
    """A flow that refuses all but the plane with this error."""

    def build(self: FlowConfig, shape: Sequence[int]) -> list[Bijection]:
        if tuple(shape) != (2,):
            raise error
        return [broken.Stretch()]

    return that(build=build)


def other_steps(*bijections: Bijection) -> type[FlowConfig]:
    """A flow with these steps, whatever the settings."""
    return that(build=lambda self, shape: list(bijections))


def never(self: FlowConfig, shape: Sequence[int]) -> list[Bijection]:
    raise ConfigError(f"flow '{self.family}' models nothing")


OF_THE_FAMILY = [
    ("it_says_what_it_is", that(__doc__=None), "docstring should begin with a sentence"),
    ("it_says_what_it_is", that(__doc__="Steps that\ngo on."), "docstring should begin with a sentence"),
    ("it_is_defined_somewhere", that(build=never), r"defined somewhere, but it refuses all of \(1,\), \(2,\), \(5,\)"),
    ("it_builds_or_refuses_with_a_sentence", refuses(ValueError("D")), r"shape \(1,\) .*, but raises a ValueError"),
    ("it_builds_or_refuses_with_a_sentence", refuses(ConfigError("no")), "line that names it, but says: no"),
    ("it_builds_or_refuses_with_a_sentence", refuses(ConfigError("stranger:\nno")), "but says: stranger: no"),
    ("it_builds_or_refuses_with_a_sentence", other_steps(broken.Stretch((3,))), r"shape \(1,\), but takes \(3,\)"),
    ("it_builds_or_refuses_with_a_sentence", made_of(broken.TwoLines), r"describe\(\) should be one line"),
]
OF_THE_MODEL = [
    ("shapes", broken.NoInverse, "a sample of 7 should be finite, but is not"),
    ("shapes", broken.ColumnOfLogDets, r"log-determinant of step 1 should have the shape \(5,\), but has \(5, 1\)"),
    (
        "gradients_reach_every_parameter",
        broken.Idle,
        r"reach every parameter, but 'steps\.0\.bijection\.idle' has none",
    ),
    ("log_det_is_that_of_autograd", broken.WrongLogDet, "Jacobian, but they differ by up to"),
    ("round_trip", broken.WrongInverse, "from x to z and back should be x, but they differ by up to"),
    ("draws_have_the_derivatives_of_an_inverse", broken.DetachedInverse, "derivative of the identity, but they differ"),
    (
        "draws_have_the_derivatives_of_an_inverse",
        broken.HalfDetached,
        r"the derivative 0 in 'steps\.0\.bijection\.log_",
    ),
    ("the_density_integrates_to_one", broken.WrongLogDet, r"integrate to 1 ± 0\.01, but its integral is 1\.4"),
    ("training_mode_gives_the_same_density", broken.OtherInTraining, "training mode should give the same density"),
    ("single_precision_agrees_with_double", broken.Cancels, "z should be the same in single precision"),
    ("copies_give_the_same", broken.Unsaved, "another model with its state should give the same density"),
    ("copies_give_the_same", broken.Unpicklable, "possible to pickle it"),
    (
        "a_checkpoint_holds_the_weights_and_little_else",
        broken.Heavy,
        r"32 bytes, and little else, but has 16\d,\d+ bytes",
    ),
    ("a_training_step_waits_for_no_number", broken.Waits, "read no number from the device, but reads"),
]


def test_every_check_has_something_that_fails_it() -> None:
    assert {promise for promise, *_ in OF_THE_FAMILY} == set(FAMILY_CHECKS)
    norms = {"with_actnorm_it_trains_and_inverts", "with_batchnorm_it_trains_and_inverts"}
    assert {promise for promise, *_ in OF_THE_MODEL} | norms == set(CHECKS)


@pytest.mark.parametrize(("promise", "cls", "sentence"), OF_THE_FAMILY, ids=[row[0] for row in OF_THE_FAMILY])
def test_a_broken_promise_of_the_family_is_found(promise: str, cls: type[FlowConfig], sentence: str) -> None:
    with registered(cls) as family:
        with pytest.raises(AssertionError, match=f"^flow 'stranger': .*{sentence}") as error:
            keep(FAMILY_CHECKS[promise], family)
        with pytest.raises(AssertionError, match="flow 'stranger'"):
            check_flow("stranger")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("promise", "kind", "sentence"), OF_THE_MODEL, ids=[f"{row[0]}-{row[1].__name__}" for row in OF_THE_MODEL]
)
def test_a_broken_promise_of_the_model_is_found(promise: str, kind: type[broken.Stretch], sentence: str) -> None:
    with registered(made_of(kind)) as family:
        plain, indexed = family.cases()
        where = r"flow 'stranger', plain, for events of shape \(2,\): "
        with pytest.raises(AssertionError, match=f"^{where}.*{sentence}") as error:
            keep(CHECKS[promise], plain)
        with pytest.raises(AssertionError, match="flow 'stranger'"):
            check_flow("stranger")
        assert str(indexed) == "flow 'stranger', indexed, for events of shape (2,)"
        assert indexed.id == "stranger-2-indexed"
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("norm", ["actnorm", "batchnorm"])
def test_a_norm_that_is_not_there_is_found(norm: str) -> None:
    with registered(other_steps(broken.Stretch(), broken.Stretch())) as family:
        _, indexed, *_ = [case for case in family.cases() if case.shape == (2,)]
        with pytest.raises(AssertionError, match=f"with norm={norm} .*, 4 steps in all, but has 2"):
            keep(CHECKS[f"with_{norm}_it_trains_and_inverts"], indexed)


def test_a_loss_that_is_not_finite_is_found() -> None:
    class Overflows(broken.Stretch):
        def _forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            z, log_det = super()._forward(x)
            return z, log_det / 0

    sentence = "the loss should be finite in training, but is nan at step 0"
    with registered(made_of(Overflows)) as family, pytest.raises(AssertionError, match=sentence):
        keep(CHECKS["the_density_integrates_to_one"], family.cases()[0])


def test_a_flow_that_keeps_them_passes_with_its_settings() -> None:
    random = torch.get_rng_state()
    with registered(that()):
        check_flow("stranger", depth=1)
        check_flow("stranger", norm="batchnorm")
    assert torch.equal(torch.get_rng_state(), random)
    assert "stranger" not in FLOWS


def test_a_flow_of_other_shapes_is_checked_in_one_of_them() -> None:
    def build(self: FlowConfig, shape: Sequence[int]) -> list[Bijection]:
        if self.flat(shape)[0] < 8:
            raise ConfigError(f"flow '{self.family}' needs 8 dimensions")
        return [broken.Stretch((shape[0],))]

    with registered(that(build=build)) as family:
        assert [(case.shape, case.indexed) for case in family.cases()] == [((8,), False), ((8,), True)]


def test_what_draws_is_checked_as_far_as_it_promises() -> None:
    """The model of pixels of 0 and 1 has densities, gradients and copies, and no inverse."""
    (case, _) = Family("bernoulli_vae").cases()
    assert set(case.batch().unique().tolist()) == {0.0, 1.0}
    keep(CHECKS["shapes"], case)
    keep(CHECKS["copies_give_the_same"], case)
    with pytest.raises(NotPromised, match="draws what it returns"):
        keep(CHECKS["round_trip"], case)
