"""YAML of strangers: plain data, and what has no end is refused before it takes memory."""

from __future__ import annotations

import pytest

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
    ],
    ids=["bomb", "cycle", "cycle of mappings", "deep", "no YAML", "long", "cut off", "code", "a number without end"],
)
def test_what_has_no_end_or_is_no_data_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_yaml(text)


def test_the_bounds_leave_room() -> None:
    assert len(read_yaml("- x\n" * (MOST - 1))) == MOST - 1
    nested = read_yaml("[" * DEEPEST + "]" * DEEPEST)
    for _ in range(DEEPEST - 1):
        nested = nested[0]
    assert nested == []
