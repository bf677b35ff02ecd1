"""The page of the estimators is what the script writes, but for the numbers; and the script measures."""

from __future__ import annotations

import re

import pytest

from tests.helpers import ROOT, script

check_gradients = script("check_gradients")


def test_the_page_has_the_words_of_the_script() -> None:
    page = (ROOT / "docs" / "gradients.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    steps = re.search(r"after ([\d ]+) steps", page)
    assert steps is not None
    assert page == check_gradients.DOCUMENT.format(
        data=check_gradients.DATA, steps=steps[1], seeds=len(check_gradients.SEEDS), table=table
    )
    lines = [line.removeprefix("| ").split(" | ")[:2] for line in table.splitlines()[2:]]
    pairs = [
        (name, m, kind) for name, (m, other) in check_gradients.CASES.items() for kind in ("reparametrised", other)
    ]
    assert lines == [[f"{name}, m = {m}", kind] for name, m, kind in pairs]


def test_a_line_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_gradients, "DRAWS", 20)
    monkeypatch.setattr(check_gradients, "SEEDS", (1, 2))
    plain, other = check_gradients.rows("elbo", 1, "stl", steps=20)
    assert plain.startswith("| elbo, m = 1 | reparametrised | ") and other.startswith("| elbo, m = 1 | stl | ")
    assert float(other.split(" | ")[3].split(" ±")[0]) < 0.7
