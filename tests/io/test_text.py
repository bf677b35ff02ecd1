"""Tables align, and numbers keep exactly the digits that their errors allow."""

from __future__ import annotations

import math

import pytest

from cifrun.io.text import WORD, minus, shortened, table, visible, with_error


def test_columns_align() -> None:
    text = table([["two_moons", "−1.69"], ["rings", "−12.10"]], ["dataset", "log p"], align="lr")
    assert text.splitlines() == [
        "dataset     log p",
        "─────────  ──────",
        "two_moons   −1.69",
        "rings      −12.10",
    ]


def test_empty_table_and_short_align() -> None:
    assert table([], ["name", "value"]).splitlines() == ["name  value", "────  ─────"]
    assert table([["1", "b"]], ["long", "x"], align="r").splitlines()[-1] == "   1  b"


def test_no_trailing_spaces() -> None:
    text = table([["a", ""], ["b", "long"]], ["k", "note"])
    assert all(line == line.rstrip() for line in text.splitlines())


def test_ragged_rows_are_refused() -> None:
    with pytest.raises(ValueError):
        table([["only one"]], ["a", "b"])


@pytest.mark.parametrize(
    ("value", "se", "expected"),
    [
        (-1.6812, 0.0541, "−1.681 ± 0.054"),
        (2.5, 0.0996, "2.50 ± 0.10"),
        (2.5, 0.00996, "2.500 ± 0.010"),
        (-1.3863, None, "−1.386"),
        (-1.3863, 0.0, "−1.386 ± 0"),
        (-1.3863, math.nan, "−1.386 ± nan"),
        (-1.3863, math.inf, "−1.386 ± inf"),
        (math.nan, 0.1, "nan"),
        (-math.inf, None, "−inf"),
        (0.0, None, "0.000"),
        (0.0, 0.0123, "0.000 ± 0.012"),
        (5678.9, 123.4, "5680 ± 120"),
        (5678.9, 12.34, "5679 ± 12"),
        (0.3, 45.6, "0 ± 46"),
        (1.23456e9, 1.2e6, "(1.2346 ± 0.0012)e9"),
        (-1.23456e9, None, "−1.235e9"),
        (1.2349e-8, 2e-10, "(1.235 ± 0.020)e−8"),
        (5e-324, None, "4.941e−324"),
        (1e308, 1e300, "(1.000000000 ± 0.000000010)e308"),
        (1.5, 1e-300, "1.5 ± 1.0e−300"),
        (-1.7e308, 5e-324, "−1.7e+308 ± 4.9e−324"),
        (0.0, 1e-300, "(0.0 ± 1.0)e−300"),
        (-1.3863, -1.0, "−1.386 ± −1"),
        (1234567.0, 2e-9, "1234567.0000000000 ± 0.0000000020"),
    ],
)
def test_with_error(value: float, se: float | None, expected: str) -> None:
    assert with_error(value, se) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two_moons ü ☃ 身長 −1.5 ± 0.1", "two_moons ü ☃ 身長 −1.5 ± 0.1"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\nb\r\tc\x00", "a\\nb\\r\\tc\\x00"),
        ("\x9b31m \u202egnp.exe\u2066", "\\x9b31m \\u202egnp.exe\\u2066"),
        ("\ud83d\u2028", "\\ud83d\\u2028"),
    ],
)
def test_what_one_does_not_see_is_spelled(text: str, expected: str) -> None:
    assert visible(text) == expected
    assert table([[text]], [text]).splitlines()[2] == expected


def test_ends_of_lines_may_stay() -> None:
    assert visible("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def test_a_long_word_keeps_its_beginning_and_a_sentence_too() -> None:
    assert shortened("one  word\nand more", 100) == "one word and more"
    long = shortened(f"{'9' * 5000} is not allowed: it is long", 1000)
    assert long == f"{'9' * (WORD - 1)}… is not allowed: it is long"
    assert shortened("word " * 100, 22) == "word word word word w…"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-0.00", "0.00"),
        ("-0", "0"),
        ("-0.00 (good)", "0.00 (good)"),
        ("-0.01", "−0.01"),
        ("-0.001 ± 0.002", "−0.001 ± 0.002"),
        ("-0.000 ± 0.002", "0.000 ± 0.002"),
        ("1e-05", "1e−05"),
        ("(1.2 ± 0.1)e-0", "(1.2 ± 0.1)e−0"),
        ("-0e5", "−0e5"),
        ("-10.0", "−10.0"),
    ],
)
def test_what_is_rounded_to_zero_has_no_sign(text: str, shown: str) -> None:
    assert minus(text) == shown
