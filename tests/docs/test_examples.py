"""Every example of the README and of the site runs.

A page reads like a session: its blocks run one after another in one directory, the Python ones in one namespace. What
a reader runs for minutes is made small first (`small_command`, `small_code`). What a page shows as printed is compared:
word for word, but for the numbers of what was made small; a slow test compares those too. A block that can't run here
says why in a comment before it: `<!-- not run: needs a SLURM cluster -->`. A slow test runs those that start processes.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
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

from .printed import same, same_numbers, same_words, words

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ("python", "bash", "console")
SHOWN = ("", "text", "toml", "yaml")

#: What words of a reader would make larger than `debug=tiny` does.
SMALL = {"trainer.max_steps": 4, "diagnostics.every": 2, "hydra.sweeper.n_trials": 2}

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


class Command(NamedTuple):
    """A command of the shell, on one line, and what the page says that it prints, if it does."""

    line: str
    shown: str | None


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        mark = MARK.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(match["language"], match["title"], match["text"], line, mark and mark["why"]))
    return found


def commands_of(block: Block) -> list[Command]:
    """The commands of a block of the shell; in a console, what they print stands below each."""
    text = block.text.replace("\\\n", " ")
    if block.language == "console":
        parts = (part.partition("\n") for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:])
        return [Command(line, shown) for line, _, shown in parts]
    return [Command(line, None) for line in text.splitlines() if line and not line.startswith("#")]


def is_run(block: Block, slow: bool = False) -> bool:
    """Whether a block is code or commands, and can run here."""
    why_not = block.why_not or ""
    needs = re.fullmatch(r"needs (optuna)", why_not)
    here = importlib.util.find_spec(needs[1]) is not None if needs else slow and why_not.startswith("starts ")
    return block.language in RUN and (block.why_not is None or here)


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
    if not equals or value.startswith("[") or "(" in value:
        return word
    return f"{key}={','.join(value.split(',')[: 2 if key == 'cif' else 1])}"


def small_code(text: str) -> str:
    """The same code, with fewer data, steps and importance samples."""
    text = re.sub(r"\((?:[1-9]\d{3}), 2\)", "(1000, 2)", text)
    text = re.sub(r"\bimportance_samples=100\b", "importance_samples=5", text)
    text = re.sub(r"\bsteps=\d+", "steps=5", text)
    text = re.sub(r"\brange\(\d{3,}\)", "range(100)", text)
    return re.sub(r'"trainer\.max_steps=\d+"', '"debug=tiny"', text)


def run_page(page: Path, module: ModuleType, capsys: pytest.CaptureFixture[str], slow: bool = False) -> int:
    """Run the blocks of a page in the present directory, made small; how many there were."""
    done, printed = 0, ""
    for block in blocks_of(page):
        where = f"{page.name}, line {block.line}"
        if block.title:  # a file that the reader makes
            write(block)
        if block.language == "text" and block.title is None and printed:  # what the code above prints
            assert set(words(printed)) <= set(words(block.text)), f"{where}: {printed}"
        printed = ""
        if not is_run(block, slow):
            continue
        done += 1
        if block.language == "python":
            execute(block, page, module, small_code(block.text))
            printed = capsys.readouterr().out
            continue
        commands = commands_of(block)
        assert commands, f"{where}: a {block.language} block without a command"
        for command in commands:
            typed = shlex.split(command.line, comments=True)
            if typed[0] != "cifrun" or any(word in command.line for word in ELSEWHERE):
                in_shell(command.line, typed)
                continue
            small = small_command(typed[1:])
            code, out, err = call(small, capsys)
            fails = command.shown is not None and command.shown.startswith("cifrun: ")
            assert code == (2 if fails else 0), f"{where}: {command.line}: {err}"
            if command.shown is not None:
                found = err if fails else out
                equal = same if fails or typed[1] == "show" else same_words
                assert equal(command.shown, found), f"{where}: {found}"
    return done


def write(block: Block) -> None:
    """The file that a block is."""
    file = Path(str(block.title))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(block.text, encoding="utf-8")


def execute(block: Block, page: Path, module: ModuleType, code: str) -> None:
    """Run code in the namespace of its page."""
    exec(compile("\n" * (block.line - 1) + code, str(page), "exec"), vars(module))


def call(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """The exit code of a command, and what it prints on stdout and stderr."""
    capsys.readouterr()
    code = main(words)
    return code, *capsys.readouterr()


#: What makes a command start processes of its own: it gets a process to itself too.
ELSEWHERE = ("device.count=", "hydra/launcher=", "hydra/sweeper=", "flow=rotation", "flow=shear")


def in_shell(line: str, words: list[str]) -> None:
    """Run a command in a process that finds the packages that the page installs, and the code that it adds."""
    here = Path.cwd()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    root = here if (here / "cifrun/cli").is_dir() else ROOT
    environment["PYTHONPATH"] = f"{here / 'site'}:{root}"
    programs = Path(sys.executable).parent
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    if words[0] == "tensorboard":
        starts_a_server(words, environment)
        return
    if words[0] == "cifrun":
        command = [sys.executable, "-m", "cifrun", *small_command(words[1:])]
    elif words[:2] == ["pip", "install"]:
        Path("my_package/my_package/__init__.py").touch()
        options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", "site", *words[2:]]
    elif words[0] == "python":
        command = [sys.executable, *words[1:]]
    else:
        assert words[0] == "eval", f"say why this is not run: {line}"
        command = ["bash", "-c", f"{line}\ncomplete -p cifrun"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"


def starts_a_server(words: list[str], environment: dict[str, str]) -> None:
    """Run a server until it says where it is."""
    command = [sys.executable, "-m", "tensorboard.main", *words[1:], "--port=0"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    with process:
        try:
            assert process.stderr is not None and any("http://" in line for line in process.stderr)
        finally:
            process.terminate()


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
def test_the_examples_of_a_page_run(page, home, module, without_pictures, capsys):
    done = run_page(page, module, capsys)
    text = page.read_text(encoding="utf-8")
    fences = len(re.findall(rf"^ *```(?:{'|'.join(RUN)})\b", text, re.MULTILINE))
    not_run = sum(block.why_not is not None and not is_run(block) for block in blocks_of(page))
    assert done == fences - not_run


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if "<!-- not run: starts " in page.read_text(encoding="utf-8")], ids=named
)
def test_the_examples_that_start_processes_run_too(page, home, module, without_pictures, capsys):
    for name in ("cifrun", "conf", "scripts", "docs") * (page.stem == "extend"):  # what it adds to is a copy
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    blocks = blocks_of(page)
    assert run_page(page, module, capsys, slow=True) == sum(is_run(block, slow=True) for block in blocks)


def test_the_tutorial_finds_its_anomaly(home, module, without_pictures, capsys):
    run_page(ROOT / "docs/tutorials/csv.md", module, capsys)
    with open("samples.csv", newline="") as file:
        samples = list(csv.DictReader(file))
    assert len(samples) == 1000 and samples[0].keys() == {"height", "weight"}
    assert np.mean([float(row["height"]) for row in samples]) == pytest.approx(171, abs=10)
    assert sorted(int(row["row"]) for row in module.scores) == list(range(1, 22))
    assert module.scores[0]["row"] == "21"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tutorials/plane", "tutorials/csv", "tutorials/python", "how-to/reports"])
def test_the_numbers_that_a_page_shows_are_those_that_a_reader_gets(name, home, module, without_pictures, capsys):
    """In full, nothing made small: the code, and the commands below which the page shows what they print."""
    page, printed, compared = ROOT / "docs" / f"{name}.md", "", 0
    for block in blocks_of(page):
        if block.language == "text" and block.title is None and printed:
            assert same_numbers(block.text, printed), printed
            compared += 1
        printed = ""
        if block.language == "python" and is_run(block):
            execute(block, page, module, block.text)
            printed = capsys.readouterr().out
        elif block.language == "console":
            for command in commands_of(block):
                code, out, err = call([*shlex.split(command.line)[1:]], capsys)
                assert code == 0, err
                assert same_numbers(str(command.shown), out), f"{command.line}: {out}"
                compared += 1
    assert compared
    if name == "tutorials/csv":  # the comment beside its last line
        first, second = (float(row["log_likelihood"]) for row in module.scores[:2])
        assert first == pytest.approx(-20.5, abs=1) and second > -11


@pytest.mark.slow
def test_the_threshold_of_the_tutorial_tells_the_gap(home, module, capsys):
    page = ROOT / "docs/tutorials/scikit-learn.md"
    blocks = [block for block in blocks_of(page) if block.language == "python"]
    for block in (blocks[0], blocks[-1]):
        execute(block, page, module, block.text)
    assert capsys.readouterr().out == "[False  True]\n" and "# [False  True]" in blocks[-1].text


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_is_of_a_kind_that_is_run_or_shown(page):
    blocks = blocks_of(page)
    assert len(blocks) * 2 == len(re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert {block.language for block in blocks} <= {*RUN, *SHOWN}


def test_the_links_of_the_readme_lead_somewhere():
    """Those of the site are checked as it is built (`scripts/docs.sh`)."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", PAGES[0].read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []
