"""The page of the bound is what the script writes, but for the numbers."""

from __future__ import annotations

import importlib.util

from tests.helpers import ROOT


def test_the_page_has_the_words_of_the_script() -> None:
    spec = importlib.util.spec_from_file_location("check_bound", ROOT / "scripts" / "check_bound.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = (ROOT / "docs" / "bound.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    assert page == script.DOCUMENT.format(limit=script.residual.EXACT_IN_EVALUATION, table=table)
    lines = [line.split(" | ") for line in table.splitlines()[2:]]
    last = {title.removeprefix("| "): kind for title, kind, *_ in lines}  # the last line of each model
    assert last == dict.fromkeys(script.CASES, "estimated once (no bound)")
