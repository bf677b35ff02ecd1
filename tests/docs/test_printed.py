"""What counts as printed alike, and what does not."""

from __future__ import annotations

import pytest

from .printed import same, same_numbers, same_words

SHOWN = "flow  test, 5,000 data\n────  ──────────\nfit   −1.58 ± 0.01  nats\ngap   62.1\n…\nrun: …/plain\n"


def printed(fit: str = "−1.58 ± 0.01", gap: str = "62.1", last: str = "run: /tmp/plain") -> str:
    return f"flow       test, 5,000 data\n────\nfit   {fit}  nats ◀\ngap   {gap}\nmore\nand more\n{last}\n"


def test_text_is_the_same_where_dots_stand_for_any() -> None:
    assert same("a  1\n…\nb … c\n", "a  1\nx\ny\nb 2 c\n")
    assert not same("a  1\n", "a  2\n") and not same("a\n", "a\nb\n") and not same("a\n…\nb\n", "a\n")


@pytest.mark.parametrize(
    ("fit", "gap"), [("−1.58 ± 0.01", "62.1"), ("−1.565 ± 0.012", "57.0"), ("−1.61 ± 0.03", "62.1")]
)
def test_numbers_may_differ_by_what_another_machine_makes_of_them(fit: str, gap: str) -> None:
    assert same_numbers(SHOWN, printed(fit, gap))


@pytest.mark.parametrize(
    "other",
    [
        {"fit": "−1.61 ± 0.01"},
        {"fit": "1.58 ± 0.01"},
        {"fit": "−1.58 ± 0.2"},
        {"gap": "50.0"},
        {"last": "run: /tmp/cif"},
    ],
)
def test_other_numbers_and_words_are_told(other: dict[str, str]) -> None:
    assert not same_numbers(SHOWN, printed(**other))


def test_words_are_compared_without_numbers() -> None:
    assert same_words(SHOWN, printed("(8.0 ± 1.0)e−5", "1"))
    assert not same_words(SHOWN, printed(last="run: /tmp/cif")) and not same_words(
        SHOWN, printed().replace("gap", "map")
    )
