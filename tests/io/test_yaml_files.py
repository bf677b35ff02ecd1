"""YAML of strangers: plain data, and what has no end is refused before it takes memory."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import yaml

from cifrun.io.yaml_files import DEEPEST, MOST, read_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 40)
)


def test_plain_data_come_as_they_are() -> None:
    text = "flow: {depth: 3, hidden: [10, 10]}\ncif: true\nlr: 1.0e-3\nname: größe\nnothing: null\n"
    assert read_yaml(text) == {
        "flow": {"depth": 3, "hidden": [10, 10]}, "cif": True, "lr": 1e-3, "name": "größe", "nothing": None,
    }  # fmt: skip
    assert read_yaml("a: &one [1, 2]\nb: *one\nc: &two x\nd: [*two, *one]") == {
        "a": [1, 2], "b": [1, 2], "c": "x", "d": ["x", [1, 2]],
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "a: &a [*a]",
        "a: &a {b: *a}",
        "[" * 100_000 + "]" * 100_000,
        "a: " * 3 + "1",
        "- x\n" * (MOST + 1),
        "a: [1",
        "!!python/object/apply:os.system [echo]",
        "a: " + "1" * 5_000,
        "a: !!int 0x1f",
        "a: !!int '" + "1:" * 400_000 + "1'",
        "a: !!float 1:30.5",
        "a: !!bool maybe",
        "a: !!set {b}",
        "a: !!binary aGk=",
        "a: !!omap [b: 1]",
        "a: !!timestamp 2020-01-01",
        "a: !!map []",
        "{[1, 2]: a}",
        "{? {a: 1} : 2}",
    ],
    ids=lambda text: text[:20],
)
def test_what_has_no_end_or_is_no_data_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_yaml(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("-3", -3), ("+5", 5), ("0", 0), ("1.5", 1.5), ("-.5", -0.5), ("1.", 1.0), ("1.0e-3", 1e-3),
        ("2.5E+10", 2.5e10), (".inf", math.inf), ("-.INF", -math.inf), ("~", None), ("yes", True), ("Off", False),
        ("!!int '7'", 7), ("!!str 7", "7"),
    ],
)  # fmt: skip
def test_a_number_is_what_one_reads_as_one(text: str, value: Any) -> None:
    found = read_yaml(f"a: {text}")["a"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text", ["1:30", "0x1f", "0b11", "017", "0o17", "1_000", "2020-01-01", "1e5", "0x" + "f" * 5000, "١٢"]
)
def test_what_only_old_yaml_takes_for_a_number_or_a_date_is_a_text(text: str) -> None:
    assert read_yaml(f"a: {text}") == {"a": text}


def test_a_long_number_of_old_yaml_takes_no_time() -> None:
    text = "1:" * 500_000 + "1"
    began = time.process_time()
    assert read_yaml(f"a: {text}") == {"a": text}
    assert time.process_time() - began < 5


def test_names_are_texts() -> None:
    assert read_yaml("{1: a, b: c, ~: d, true: e, 2020-01-01: f}") == {
        "1": "a", "b": "c", "~": "d", "true": "e", "2020-01-01": "f",
    }  # fmt: skip


@pytest.mark.parametrize(
    "value", ["1:30", "0x1f", "1e5", "017", "yes", "2020-01-01", "~", "1_000", "", "=", "12", 1e-5, 1e20, -7, None]
)
def test_what_is_written_comes_back(value: Any) -> None:
    assert read_yaml(yaml.safe_dump({"a": value, "b": [value]})) == {"a": value, "b": [value]}


def test_the_bounds_leave_room() -> None:
    assert len(read_yaml("- x\n" * (MOST - 1))) == MOST - 1
    nested = read_yaml("[" * DEEPEST + "]" * DEEPEST)
    for _ in range(DEEPEST - 1):
        nested = nested[0]
    assert nested == []
