"""The words that a sentence tells to type are typed, as a shell gives them on, and then the file is read."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cifrun.cli.main import main

ROWS = [(k % 7 + 0.25, k * k % 11 - 0.5) for k in range(60)]


def text(names: str, row: str, last: str = "") -> str:
    """A text of many rows: `row` has places for three numbers."""
    return names + "\n" + "".join(row.format(a, b, a * b) + "\n" for a, b in ROWS) + last


CASES: dict[str, str] = {
    "numbers alone": text("1,2", "{},{}"),
    "numbers alone, blanks": text("1.5   2.5", "{}   {}"),
    "thousands or decimals": text("a;b", "{};{}").replace(".25", ",250").replace("0,250", "7,250").replace(".5", ""),
    "a comma in one column": text("size", "{}").replace(".", ","),
    "a late comma": text("a;b", "{0:.0f};{1:.0f}" + "\n1;2" * 40, "1,5;2\n"),
    "an empty cell": text("a,b", "{},{}", "3,\n4,NA\n"),
    "a cell that is NaN": text("a,b", "{},{}", "3,nan\n"),
    "text beside numbers": text("sepal length (cm),größe,it's,kind", "{},{},{},x"),
    "a column without a name": text(",a,b", "7,{},{}"),
    "two columns of one name": text("a,b,a,c d", "7,{},8,{}"),
}
#: What a sentence tells to type.
WORD = re.compile(r"'dataset\.[^']*(?:'\"'\"'[^']*)*'|dataset\.\w+='[^']*'|dataset\.\w+=(?:,|[^\s,;]+)")


@pytest.mark.parametrize("content", CASES.values(), ids=CASES.keys())
def test_what_a_sentence_tells_to_type_works(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text(content)
    words = ["show", "dataset=file", "dataset.path=a.csv", "flow=affine"]
    assert main(words) == 2
    told = capsys.readouterr().err
    found = WORD.findall(told)
    assert found, told
    (word, *more) = shlex.split(found[0])
    assert not more
    assert main([*words, word]) == 0, capsys.readouterr().err
