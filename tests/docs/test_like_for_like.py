"""Each headline ratio against the published code says whether it is like for like."""

from __future__ import annotations

import re

from tests.helpers import ROOT

PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


def test_every_ratio_of_resflow_is_marked() -> None:
    """The two sides compute different log-determinants by default."""
    rows = re.findall(r"^\| resflow \| (?:plain|CIF) \|.*\*\*[0-9.]+\*\*.*$", PAGE, re.MULTILINE)
    assert len(rows) == 6 and all(re.search(r"\*\*[0-9.]+\*\* †", row) for row in rows)


def test_what_was_not_measured_is_said_so() -> None:
    table = PAGE.partition("## Against the published code")[2].partition("\n\n**Like for like**")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "---" not in line]
    assert not any("| – |" in row for row in rows)
    alike = [row for row in rows if "like for like" in row]
    assert len(alike) == 2 and all(row.count("not measured") == 2 for row in alike)
