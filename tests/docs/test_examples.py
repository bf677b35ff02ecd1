"""Every example of the README and of the site runs.

A page reads like a session: its blocks run one after another in one directory, the Python ones in one namespace. What
a reader runs for minutes is made small first (`small_command`, `small_code`). A block that can't run here says why in a
comment before it: `<!-- not run: needs a SLURM cluster -->`.
"""

from __future__ import annotations

import csv
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest

from cifrun.cli.main import main
from cifrun.registry import DATASETS, FLOWS, OBJECTIVES
from tests.helpers import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ("python", "bash", "console")
SHOWN = ("", "text", "toml", "yaml")

#: What words of a reader would make larger than `debug=tiny` does.
SMALL = {"trainer.max_steps": 4, "diagnostics.every": 2}

FENCE = re.compile(
    r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
MARK = re.compile(r"<!-- not run: (?P<why>[^>]+) -->\n\Z")


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    title: str | None
    text: str
    line: int
    why_not: str | None


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        mark = MARK.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(match["language"], match["title"], match["text"], line, mark and mark["why"]))
    return found


def commands_of(block: Block) -> list[str]:
    """The commands of a block of the shell, each on one line; of a console, without what they print."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line for line in lines if line and not line.startswith("#")]


def small_command(words: list[str]) -> list[str]:
    """The same command, in a second; of a sweep, the first value of each list, but the plain flow and its CIF."""
    if words[0] != "train" or "--help" in words:
        return words
    if any(word.startswith("resume=") for word in words):
        return [re.sub(r"^(trainer\.max_steps)=\d+$", r"\1=8", word) for word in words]
    if "-m" in words:
        words = [_fewer(word) for word in words]
    small = ["debug=tiny", "trainer.progress=false"]
    small += [f"{key}={value}" for key, value in SMALL.items() if any(word.startswith(key) for word in words)]
    return words + small + ([] if any(word.startswith("device") for word in words) else ["device=cpu"])


def _fewer(word: str) -> str:
    key, equals, value = word.partition("=")
    if not equals or value.startswith("["):
        return word
    return f"{key}={','.join(value.split(',')[: 2 if key == 'cif' else 1])}"


def small_code(text: str) -> str:
    """The same code, with fewer data, steps and importance samples."""
    text = re.sub(r"\((?:[1-9]\d{3}), 2\)", "(1000, 2)", text)
    text = re.sub(r"\bimportance_samples=100\b", "importance_samples=5", text)
    text = re.sub(r"\bsteps=\d+", "steps=5", text)
    text = re.sub(r"\brange\(\d{3,}\)", "range(100)", text)
    return re.sub(r'"trainer\.max_steps=\d+"', '"debug=tiny"', text)


def run(block: Block, page: Path, module: ModuleType) -> None:
    """Run a block, in the present directory."""
    if block.language == "python":
        code = "\n" * (block.line - 1) + small_code(block.text)
        exec(compile(code, str(page), "exec"), vars(module))
        return
    commands = commands_of(block)
    assert commands, f"{page.name}, line {block.line}: a {block.language} block without a command"
    for command in commands:
        assert command.startswith("cifrun "), f"{page.name}, line {block.line}: say why this is not run: {command}"
        words = small_command(shlex.split(command, comments=True)[1:])
        assert main(words) == 0, f"{page.name}, line {block.line}: cifrun {shlex.join(words)}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a page, with the two tables that a reader is said to have."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIFRUN_DATA", str(tmp_path / "data"))
    draw = np.random.default_rng(0)
    for name, count in {"my": 300, "other": 20}.items():
        rows = np.stack([170 + 8 * draw.standard_normal(count), 70 + 9 * draw.standard_normal(count)], 1).round(1)
        with open(f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows([["height", "weight", "age"], *([*row, 40] for row in rows.tolist())])
    return tmp_path


@pytest.fixture
def module() -> Iterator[ModuleType]:
    """The namespace of a page's code; what it registers is gone afterwards."""
    registries = (FLOWS, DATASETS, OBJECTIVES)
    before = [{name: registry[name] for name in registry} for registry in registries]
    made = ModuleType("page")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]
    for registry, entries in zip(registries, before, strict=True):
        registry._entries.clear()
        registry._entries.update(entries)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if "```" in page.read_text(encoding="utf-8")], ids=named)
def test_the_examples_of_a_page_run(page, home, module, without_pictures):
    done = 0
    for block in blocks_of(page):
        if block.title and block.language in SHOWN:  # a file that the reader makes
            (home / block.title).parent.mkdir(parents=True, exist_ok=True)
            (home / block.title).write_text(block.text, encoding="utf-8")
        if block.language in RUN and not block.why_not:
            run(block, page, module)
            done += 1
    text = page.read_text(encoding="utf-8")
    fences = len(re.findall(rf"^ *```(?:{'|'.join(RUN)})\b", text, re.MULTILINE))
    assert done == fences - text.count("<!-- not run: ")


def test_the_tutorial_finds_its_anomaly(home, module, without_pictures):
    page = ROOT / "docs/tutorials/csv.md"
    for block in blocks_of(page):
        if block.language in RUN:
            run(block, page, module)
    with open("samples.csv", newline="") as file:
        samples = list(csv.DictReader(file))
    assert len(samples) == 1000 and samples[0].keys() == {"height", "weight"}
    assert np.mean([float(row["height"]) for row in samples]) == pytest.approx(171, abs=10)
    assert sorted(int(row["row"]) for row in module.scores) == list(range(1, 22))
    assert module.scores[0]["row"] == "21"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_is_of_a_kind_that_is_run_or_shown(page):
    blocks = blocks_of(page)
    assert len(blocks) * 2 == len(re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert {block.language for block in blocks} <= {*RUN, *SHOWN}


def test_the_links_of_the_readme_lead_somewhere():
    """Those of the site are checked as it is built (`scripts/docs.sh`)."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", PAGES[0].read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []
