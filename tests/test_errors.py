"""What goes wrong in a user's hands is one kind of exception, and what was meant is guessed only when it is near."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifrun import errors
from cifrun.errors import CifrunError, did_you_mean

#: Of which no two are alike.
NAMES = ["two_moons", "resflow", "checkerboard", "log_likelihood"]


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name.endswith("Error")])
def test_an_error_for_users_is_no_error_of_the_language(name: str) -> None:
    """So that `except CifrunError` has them all, and `except ValueError` hides none of them."""
    kind = getattr(errors, name)
    assert issubclass(kind, CifrunError)
    assert not issubclass(kind, ValueError | LookupError | OSError | ArithmeticError | RuntimeError)
    assert str(kind("one sentence")) == "one sentence"


@given(st.sampled_from(NAMES), st.data())
def test_one_slip_of_the_finger_is_understood(name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(name) - 1))
    letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz_"))
    slips = [
        name[:place] + name[place + 1 :],
        name[:place] + letter + name[place + 1 :],
        name[:place] + letter + name[place:],
    ]
    assert [did_you_mean(slip, iter(NAMES)) for slip in slips] == [f"; did you mean '{name}'?"] * 3


@pytest.mark.parametrize(("word", "allowed"), [("", NAMES), ("qqqq", NAMES), ("two_moons", [])])
def test_what_is_like_nothing_gets_no_guess(word: str, allowed: list[str]) -> None:
    assert did_you_mean(word, allowed) == ""
