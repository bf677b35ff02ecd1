"""The small models on which flows are checked: their settings, their shapes, and what they are called."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from cifrun.errors import ConfigError
from cifrun.registry import FLOWS
from cifrun.testing import check_flow
from cifrun.testing.flow_cases import SMALL, Family, FlowCase


def test_settings_override_the_small_ones() -> None:
    assert Family("maf").flow().depth == 2
    assert Family("maf", {"depth": 3, "hidden": [4]}).flow().depth == 3
    with pytest.raises(ConfigError, match=r"flow\.depht.*depth"):
        check_flow("maf", depht=3)
    with pytest.raises(ConfigError, match="there is no flow 'mfa'"):
        check_flow("mfa")


def test_each_small_setting_is_one_of_some_flow() -> None:
    fields = {field.name for name in FLOWS for field in dataclasses.fields(FLOWS[name])}
    assert set(SMALL) <= fields


@pytest.mark.parametrize(
    ("name", "cases"),
    [
        ("maf", ["maf-1-plain", "maf-1-indexed", "maf-2-plain", "maf-2-indexed", "maf-5-plain", "maf-5-indexed"]),
        ("realnvp", ["realnvp-2-plain", "realnvp-2-indexed", "realnvp-5-plain", "realnvp-5-indexed"]),
        ("vae", ["vae-1-indexed", "vae-2-indexed", "vae-5-indexed"]),
        ("glow", ["glow-1x4x4-plain", "glow-1x4x4-indexed", "glow-3x4x4-plain", "glow-3x4x4-indexed"]),
    ],
)
def test_a_flow_is_checked_where_it_is_defined_plain_and_indexed(name: str, cases: list[str]) -> None:
    """A coupling needs two dimensions; of an autoencoder nothing is left without its index."""
    assert [case.id for case in Family(name).cases()] == cases


def test_a_case_says_what_it_is_and_builds_the_same_model_each_time() -> None:
    case = FlowCase(Family("maf"), (2,), True)
    assert str(case) == "flow 'maf', indexed, for events of shape (2,)"
    model = case.model()
    assert model.indexed and model.shape == (2,) and not model.training
    assert all(p.dtype == torch.float64 for p in model.parameters())
    assert all(map(torch.equal, model.parameters(), case.model().parameters()))
    fresh = dict(case.build().named_parameters())
    assert all(not torch.equal(p, fresh[name]) for name, p in model.named_parameters())


def test_batches_are_the_same_each_time_and_may_be_of_another_shape() -> None:
    case = FlowCase(Family("maf"), (2,), False)
    assert torch.equal(case.batch(), case.batch())
    assert case.batch(7, (3,)).shape == (7, 3)
