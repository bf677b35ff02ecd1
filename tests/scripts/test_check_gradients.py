"""The page of the estimators is what the script writes, but for the numbers; and the script measures."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pytest

from tests.helpers import ROOT


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_gradients", ROOT / "scripts" / "check_gradients.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_words_of_the_script(script: ModuleType) -> None:
    page = (ROOT / "docs" / "gradients.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    steps = re.search(r"after ([\d ]+) steps", page)
    assert steps is not None
    assert page == script.DOCUMENT.format(data=script.DATA, steps=steps[1], seeds=len(script.SEEDS), table=table)
    lines = [line.removeprefix("| ").split(" | ")[:2] for line in table.splitlines()[2:]]
    pairs = [(name, m, kind) for name, (m, other) in script.CASES.items() for kind in ("reparametrised", other)]
    assert lines == [[f"{name}, m = {m}", kind] for name, m, kind in pairs]


def test_a_line_of_the_table(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "DRAWS", 20)
    monkeypatch.setattr(script, "SEEDS", (1, 2))
    plain, other = script.rows("elbo", 1, "stl", steps=20)
    assert plain.startswith("| elbo, m = 1 | reparametrised | ") and other.startswith("| elbo, m = 1 | stl | ")
    assert float(other.split(" | ")[3].split(" ±")[0]) < 0.7
