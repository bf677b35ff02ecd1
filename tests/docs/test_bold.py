"""What a page calls better is told apart by the test that the page names."""

from __future__ import annotations

import re

from cifrun.reporting.significance import Sample, differ
from tests.helpers import ROOT


def sample(cell: str, first: int) -> tuple[Sample, bool]:
    """Three seeds with the mean and the error of a cell, and whether it is bold."""
    mean, error = (float(number) for number in cell.strip(" *").replace("−", "-").split(" ± "))
    values = (mean - 3**0.5 * error, mean, mean + 3**0.5 * error)
    return Sample({first + k: value for k, value in enumerate(values)}), "**" in cell


def test_bold_numbers_of_the_topology_page_are_told_apart() -> None:
    page = (ROOT / "docs" / "topology.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|")[2:6] for line in re.findall(r"^\|.*±.*\|$", page, re.MULTILINE)]
    assert len(rows) == 6
    for plain, cif in zip(rows[::2], rows[1::2], strict=True):
        for one, other in zip(plain, cif, strict=True):
            (a, bold_a), (b, bold_b) = sample(one, 0), sample(other, 10)
            assert (bold_a or bold_b) == differ(a, b), (one, other)
