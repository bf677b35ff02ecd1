"""Every toy target: its density is a density, its samples come from it, and its splits are what they should be.

All tests run over whatever is registered as a target, so that a new one is tested by being registered; what every one
promises is written down in `cifrun.testing`. Seeds are fixed: a test that passes once passes always. What chance a
correct target has to fail under a fresh seed is said where it is not negligible.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import Tensor

from cifrun.config.schema import check
from cifrun.data.base import Target
from cifrun.errors import ConfigError
from cifrun.registry import DATASETS
from cifrun.testing.datasets import CHECKS, TARGET_CHECKS, DatasetCase
from cifrun.testing.promises import keep

NAMES = [name for name in DATASETS if issubclass(DATASETS[name], Target)]
SMOOTH = {"circles", "eight_gaussians", "pinwheel", "rings", "swiss_roll", "two_moons", "two_spirals"}
ENTROPY = {
    "annulus": math.log(3 * math.pi),
    "checkerboard": math.log(32),
    "one_uniform": 0.0,
    "split_gaussian": math.log(2 * math.pi * math.e),
    "two_lines": math.log(0.04),
    "two_marginals": 0.5 * math.log(2 * math.pi * math.e),
    "two_uniforms": math.log(4),
}
#: Cells of the fine grid over the window, a multiple of 12; the lines of two_lines are two cells wide.
CELLS = {"two_lines": (600, 240)}

every_target = pytest.mark.parametrize("name", NAMES)


def make(name: str, **settings: Any) -> Target:
    return check(DATASETS[name], {"name": name, **settings})


CASES = {
    name: DatasetCase(name, cells=CELLS.get(name, (300, 300)), mass_error=2e-6 if name in SMOOTH else 1e-2)
    for name in NAMES
}


def draws(name: str) -> Tensor:
    return CASES[name].draws


@every_target
@pytest.mark.parametrize("promise", {**CHECKS, **TARGET_CHECKS})
def test_a_target_keeps_its_promise(promise: str, name: str) -> None:
    """Of the χ² test of the samples a false alarm has a chance of 1 in 700 for all fourteen, under one fresh seed."""
    keep({**CHECKS, **TARGET_CHECKS}[promise], CASES[name])


@pytest.mark.parametrize("name", sorted(ENTROPY))
def test_entropy(name: str) -> None:
    """The mean of −log p is the entropy, within 5 standard errors: exactly where p is constant."""
    log_prob = make(name).log_prob(draws(name))
    margin = 5 * log_prob.std().item() / math.sqrt(len(log_prob)) + 1e-9
    assert -log_prob.mean().item() == pytest.approx(ENTROPY[name], abs=margin)


@every_target
def test_refuses_parameters_out_of_range(name: str) -> None:
    own = {f.name for f in dataclasses.fields(DATASETS[name])} - {f.name for f in dataclasses.fields(Target)}
    for key in own:
        for value in (-1.0, math.inf, "much"):
            with pytest.raises(ConfigError, match=key):
                make(name, **{key: value})


@every_target
def test_yaml_holds_the_defaults(name: str) -> None:
    """`conf/dataset/NAME.yaml` sets every key there is, to the default that Python has."""
    path = Path(__file__).parents[3] / "conf" / "dataset" / f"{name}.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert data.pop("seed") == "${seed}"
    assert {*data, "seed"} == {f.name for f in dataclasses.fields(DATASETS[name])}
    assert check(DATASETS[name], data) == make(name)
