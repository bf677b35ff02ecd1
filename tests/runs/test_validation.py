"""What was read from a file is of the kind that was written, or one sentence says what it is instead."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifrun.errors import RunError
from cifrun.runs.validation import KINDS, check, is_any, kinds_of, saved

NAN, INF = math.nan, math.inf

#: For each kind, what is of it and what only looks like it.
TABLE: dict[str, tuple[list[Any], list[Any]]] = {
    "null": ([None], [0, False, "", [], "null"]),
    "true or false": ([True, False], [0, 1, "true", None]),
    "a text": (["", "a"], [None, 1, ["a"]]),
    "a number": ([0, -3, 2.5, NAN, -INF, 2**63 - 1, 1 - 2**63], [True, "1", None, 2**63, -(2**63), 10**400]),
    "a finite number": ([0, -0.5, 1e308], [NAN, INF, -INF, False, 10**400]),
    "a finite number from 0": ([0, 0.0, -0.0, 1e308], [-1, -1e-300, NAN, INF, True]),
    "a whole number from 0": ([0, 7, 2**63 - 1], [-1, 1.0, True, 2**63, NAN, "7", None]),
    "a number of levels": ([2, 256, 2**16], [1, 0, -2, 2**16 + 1, 2.0, True]),
    "a list": ([[], [None, 1]], [{}, "ab", None, (1,)]),
    "a list of texts": ([[], ["a", ""]], [["a", 1], [None], "ab", {"a": 1}]),
    "a shape": ([[1], [3, 32, 32], [2**31 - 1]], [[], [0], [-1], [2.0], [True], [2**31], [[3]], 3, "3", None]),
    "a mapping": ([{}, {"a": 1}], [[], None, "{}"]),
}

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = LEAVES | st.lists(LEAVES) | st.dictionaries(st.text(), LEAVES)


@dataclass
class Kept:
    """A dataclass that is kept in a file."""

    count: int = saved("a whole number from 0")
    name: str | None = saved("a text", "null", default=None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_takes_what_is_of_it_and_nothing_that_looks_like_it(kind: str) -> None:
    yes, no = TABLE[kind]
    assert [value for value in yes if not KINDS[kind](value)] == []
    assert [value for value in no if KINDS[kind](value)] == []


def test_one_of_several_kinds_is_enough() -> None:
    assert is_any(None, ("a text", "null")) and is_any("", ("a text", "null"))
    assert not is_any(1, ("a text", "null")) and not is_any(None, ())


def test_fields_of_a_dataclass_say_what_they_may_be() -> None:
    assert kinds_of(Kept) == {"count": ("a whole number from 0",), "name": ("a text", "null")}
    assert Kept(3) == Kept(3, None)


def test_the_first_field_that_is_wrong_is_named() -> None:
    kinds = kinds_of(Kept)
    check({"count": 1, "name": None, "other": object()}, kinds, "FILE", complete=True)
    check({}, kinds, "FILE")
    for found, sentence in (
        ({"name": "a"}, "FILE is damaged: it has no 'count'"),
        ({"name": 3, "count": 1}, "FILE is damaged: 'name' is 3, and should be a text or null"),
        ({"name": 3, "count": -1}, "FILE is damaged: 'count' is -1, and should be a whole number from 0"),
    ):
        with pytest.raises(RunError) as error:
            check(found, kinds, "FILE", complete=True)
        assert str(error.value) == sentence


@given(st.sampled_from(sorted(KINDS)), JSON)
def test_whatever_a_file_holds_is_taken_or_refused_in_a_short_sentence(kind: str, value: Any) -> None:
    try:
        check({"field": value}, {"field": (kind,)}, "FILE")
    except RunError as error:
        assert not is_any(value, (kind,))
        text = str(error)
        assert text.startswith("FILE is damaged: 'field' is ") and text.endswith(f", and should be {kind}")
        assert "\n" not in text and len(text) < 400
    else:
        assert is_any(value, (kind,))


def test_a_sentence_on_what_is_nested_deeply_is_short() -> None:
    nested: Any = 1
    for _ in range(6):
        nested = [nested] * 6
    with pytest.raises(RunError) as refused:
        check({"steps": nested}, {"steps": ("a whole number from 0",)}, "a file")
    assert len(str(refused.value)) < 300
