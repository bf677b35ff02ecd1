"""A mistake in a configuration is one sentence: the key, the value, what is allowed, and what may have been meant."""

from __future__ import annotations

from typing import Any

import pytest

from cifrun.config.schema import Config, OptimizerConfig, check
from cifrun.errors import ConfigError

GOOD: dict[str, Any] = {"dataset": {"name": "two_moons"}, "flow": {"family": "maf"}}

BAD: list[tuple[dict[str, Any], str]] = [
    ({"sede": 1}, "there is no key 'sede': .*did you mean 'seed'?"),
    ({"trainer": {"max_step": 5}}, "there is no key 'trainer.max_step': .*did you mean 'trainer.max_steps'?"),
    ({"flow": {"family": "maf", "dept": 3}}, "there is no key 'flow.dept': .*did you mean 'flow.depth'?"),
    ({"trainer": {"batch_size": 0}}, "trainer.batch_size = 0 is not allowed: .*greater than or equal to 1"),
    ({"flow": {"family": "maf", "hidden": ["a"]}}, "flow.hidden = 'a' is not allowed: .*integer"),
    ({"index": {"depth": "some"}}, "index.depth = 'some' is not allowed: it should be 'all' or a valid integer"),
    ({"index": {"action": "plana"}}, "index.action = 'plana' is not allowed: it should be 'affine' or 'planar'"),
    ({"cif": "maybe"}, "cif = 'maybe' is not allowed: it should be true or false"),
    ({"optimizer": {"lr": float("inf")}}, "optimizer.lr = inf is not allowed: it should be a finite number"),
    ({"objective": {"name": "elbow"}}, "there is no objective 'elbow': .*did you mean 'elbo'?"),
    ({"dataset": {"name": "two_moon"}}, "there is no dataset 'two_moon': .*did you mean 'two_moons'?"),
    ({"dataset": {}}, "dataset.name is missing: choose one of annulus"),
    ({"flow": "maf"}, "flow = 'maf' is not allowed: choose one of affine"),
]


@pytest.mark.parametrize(("change", "sentence"), BAD, ids=[str(change) for change, _ in BAD])
def test_a_mistake_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        Config.parse({**GOOD, **change})
    assert "\n" not in str(caught.value)


def test_what_has_no_default_is_missing() -> None:
    with pytest.raises(ConfigError, match="'flow' is missing from the configuration"):
        Config.parse({"dataset": GOOD["dataset"]})


def test_a_mistake_at_the_top_comes_before_one_inside_a_dataset() -> None:
    with pytest.raises(ConfigError, match="'sede'"):
        Config.parse({**GOOD, "dataset": {"name": "nonsense"}, "sede": 1})


def test_a_prefix_stands_before_the_key() -> None:
    with pytest.raises(ConfigError, match=r"^optimizer\.lr = -1"):
        check(OptimizerConfig, {"lr": -1}, "optimizer")
