"""A mistake in a configuration is one sentence: the key, the value, what is allowed, and what may have been meant."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from cifrun.config.fields import settings
from cifrun.config.schema import Config, OptimizerConfig, check
from cifrun.errors import ConfigError
from cifrun.registry import CLASSES

GOOD: dict[str, Any] = {"dataset": {"name": "two_moons"}, "flow": {"family": "maf"}}
#: How pydantic begins, and what it calls types.
RAW = re.compile(r"\b(input|valid|string|integer|boolean|dictionary|instance|pathlib|after validation|pattern)\b", re.I)

BAD: list[tuple[dict[str, Any], str]] = [
    ({"sede": 1}, "there is no key 'sede': .*did you mean 'seed'?"),
    ({"trainer": {"max_step": 5}}, "there is no key 'trainer.max_step': .*did you mean 'trainer.max_steps'?"),
    ({"flow": {"family": "maf", "dept": 3}}, "there is no key 'flow.dept': .*did you mean 'flow.depth'?"),
    ({"trainer": {"batch_size": 0}}, "trainer.batch_size = 0 is not allowed: .*greater than or equal to 1"),
    ({"flow": {"family": "maf", "hidden": ["a"]}}, "flow.hidden = 'a' is not allowed: it should be a whole number$"),
    ({"index": {"depth": "some"}}, "index.depth = 'some' is not allowed: it should be 'all' or a whole number$"),
    ({"index": {"depth": 1.5}}, "index.depth = 1.5 is not allowed: it should be 'all' or a whole number$"),
    ({"index": {"depth": True}}, "index.depth = True is not allowed: it should be a whole number or 'all'$"),
    ({"index": {"st": True}}, "index.st = True .* a list of whole numbers or 'zero' or 'learned_constant'$"),
    ({"index": None}, "index = None is not allowed: it should be a mapping$"),
    ({"flow": {"family": "maf", "hidden": [1] * 70}}, "it should be a list of at most 64$"),
    ({"optimizer": {"lr": "fast"}}, "optimizer.lr = 'fast' is not allowed: it should be a number$"),
    ({"run": 5}, "run = 5 is not allowed: it should be a path$"),
    ({"sweep": {"name": "a/b"}}, "sweep.name = 'a/b' .* it should be a name, of letters, digits and . _ -$"),
    ({"dataset": {"name": "power", "url": "ftp://x"}}, "an address that begins with http:// or https://$"),
    ({"dataset": {"name": "power", "md5": "?"}}, "dataset.md5 = '\\?' .* 32 digits of 0 to 9 and a to f$"),
    ({"dataset": {"name": "file", "delimiter": "abc"}}, "it should be a text of at most 2 characters$"),
    (
        {"index": {"action": "plana"}},
        "index.action = 'plana' is not allowed: it should be 'affine', 'bounded' or 'planar'",
    ),
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


def test_nothing_is_said_in_the_words_of_a_library() -> None:
    """Of any setting, and any kind of value that is wrong there."""
    values = (None, True, -1, 1.5, math.nan, "", "?" * 99, "1" * 5000, 2**63, [], ["a"], [1.5], [1] * 99, {}, {"a": 1})
    found = [(setting.name, GOOD) for setting in settings(Config)]
    for registry in CLASSES:
        for name in registry:
            data = {**GOOD, registry.noun: {registry.key: name}}
            found += [(setting.name, data) for setting in settings(registry[name], registry.noun)]
    for name, data in found:
        first, *rest = name.split(".")
        for value in values:
            inner: Any = value
            for part in reversed(rest):
                inner = {part: inner}
            change = {**data.get(first, {}), **inner} if rest else inner
            try:
                Config.parse({**data, first: change})
            except ConfigError as error:
                sentence = str(error).replace(repr(value), "")
                assert not RAW.search(sentence), sentence
