"""The page of the bound is what the script writes, but for the numbers."""

from __future__ import annotations

from tests.helpers import ROOT, script

check_bound = script("check_bound")


def test_the_page_has_the_words_of_the_script() -> None:
    page = (ROOT / "docs" / "bound.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    assert page == check_bound.DOCUMENT.format(limit=check_bound.residual.EXACT_IN_EVALUATION, table=table)
    lines = [line.split(" | ") for line in table.splitlines()[2:]]
    last = {title.removeprefix("| "): kind for title, kind, *_ in lines}  # the last line of each model
    assert last == dict.fromkeys(check_bound.CASES, "estimated once (no bound)")
