"""The pages that are made from the code are up to date, and hold all that there is."""

from __future__ import annotations

import subprocess
import sys

from cifrun.cli.help import VERBS
from cifrun.config.fields import settings
from cifrun.config.schema import Config
from cifrun.registry import CLASSES
from tests.helpers import ROOT, script

make_docs = script("make_docs")


def test_the_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "make_docs.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_page_that_is_not_up_to_date_is_named_and_written(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(make_docs, "DOCS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["make_docs.py"])
    assert make_docs.main() == 0
    (tmp_path / "reference/configuration.md").write_text("of yesterday")
    (tmp_path / "metrics.md").unlink()
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["make_docs.py", "--check"])
    assert make_docs.main() == 1
    assert capsys.readouterr().out.splitlines() == [
        f"docs/{name} is not up to date: run scripts/make_docs.py"
        for name in ("metrics.md", "reference/configuration.md")
    ]
    assert not (tmp_path / "metrics.md").exists()


def test_every_key_has_a_row() -> None:
    page = make_docs.configuration_page()
    keys = {field.name for field in settings(Config)}
    for registry in CLASSES:
        for name in make_docs._own(registry):
            assert f"`{name}`" in page
            keys |= {field.name for field in settings(registry[name], registry.noun)}
    keys -= {f"{registry.noun}.{registry.key}" for registry in CLASSES}
    assert [key for key in sorted(keys) if f"| `{key}` |" not in page] == []


def test_every_verb_has_a_section() -> None:
    page = make_docs.command_line_page()
    assert [verb for verb in VERBS if f"\n## cifrun {verb}\n" not in page] == []
