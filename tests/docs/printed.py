"""Whether what a command prints is what a page says, where … is any text, and alone on a line any lines."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: A number as tables have it.
NUMBER = r"[−+-]?\d[\d,]*(?:\.\d+)?"
#: What a table has beside words and numbers: rules, and marks of the best.
MARKS = re.compile(r"[─◀≈*]+")


def words(text: str) -> list[str]:
    """The lines of a text without numbers, rules and marks."""
    numbers = re.compile(rf"\({NUMBER} ± {NUMBER}\)e{NUMBER}|{NUMBER}|±")
    lines = (" ".join(numbers.sub(" ", MARKS.sub(" ", line)).split()) for line in text.splitlines())
    return [line for line in lines if line]


def same(shown: str, printed: str) -> bool:
    """Whether two texts are the same."""
    return _match(_exactly(shown), [line.rstrip() for line in printed.splitlines()]) is not None


def same_words(shown: str, printed: str) -> bool:
    """Whether two texts are the same but for numbers, rules and marks."""
    return _match(map(re.escape, words(shown)), words(printed)) is not None


def same_numbers(shown: str, printed: str) -> bool:
    """Whether two texts have the same words, and the same numbers, but for what another machine makes of them.

    That is two standard errors where one is given as ±, by the larger of both texts; else a tenth, or one in the last
    digit. A standard error of two seeds is itself off by a factor of ten now and then: it may be.
    """
    lines = (_plain(shown), _plain(printed))
    pattern = (rf"({NUMBER})".join(map(re.escape, re.split(NUMBER, line))) for line in lines[0])
    match = _match(pattern, lines[1])
    if match is None:
        return False
    kept = "\n".join(lines[0])
    numbers, found = list(re.finditer(NUMBER, kept)), [_value(group) for group in match.groups()]
    for k, number in enumerate(numbers):
        value, unit = _value(number[0]), 10.0 ** -len(number[0].partition(".")[2])
        tolerance = max(0.1 * abs(value), unit)
        if kept[: number.start()].endswith("± "):
            if not value / 10 - unit <= found[k] <= 10 * value + unit:
                return False
            continue
        if kept[number.end() :].startswith(" ± "):
            tolerance = max(2 * _value(numbers[k + 1][0]), 2 * found[k + 1], unit)
        if abs(found[k] - value) > tolerance * (1 + 1e-9):
            return False
    return True


def _value(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


def _plain(text: str) -> list[str]:
    """The lines of a text with one space for several, without rules and marks."""
    lines = (" ".join(MARKS.sub(" ", line).split()) for line in text.splitlines())
    return [line for line in lines if line]


def _exactly(text: str) -> Iterable[str]:
    return (re.escape(line.rstrip()) for line in text.splitlines())


def _match(patterns: Iterable[str], lines: Iterable[str]) -> re.Match[str] | None:
    """The lines, if they are all of those that the patterns of lines describe."""
    whole = ""
    for pattern in patterns:
        whole += r"(?:.*\n)*" if pattern.strip("\\ ") == "…" else pattern.replace("…", ".*") + r"\n"
    return re.fullmatch(whole, "".join(f"{line}\n" for line in lines))
