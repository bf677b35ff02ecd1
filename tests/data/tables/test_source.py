"""What all formats of tables share: how many rows are read at once, and how columns are named in a sentence."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cifrun.cli.hydra_app import configure
from cifrun.data.tables.source import NUMBERS, ROWS, Batch, Source, at_once, listed, typed


@pytest.mark.parametrize("width", [1, 64, 65, 1000, NUMBERS, NUMBERS + 1])
def test_of_wide_tables_fewer_rows_are_read_at_once_and_at_least_one(width: int) -> None:
    rows = at_once(width)
    assert 1 <= rows <= ROWS
    assert rows == 1 or rows * width <= NUMBERS
    assert rows == ROWS or (rows + 1) * width > NUMBERS


def test_a_table_without_columns_has_rows_too() -> None:
    assert at_once(0) == ROWS


def test_names_that_are_too_many_to_read_are_counted() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(f"x{k}" for k in range(12)).endswith(", x11")
    assert listed([f"x{k}" for k in range(13)]).endswith(", x11, … (13 in all)")
    assert listed("abc", most=1) == "a, … (3 in all)"


class Nothing(Source):
    """A format without rows."""

    def _open(self) -> None:
        self.names = ["height", "name"]

    def batches(self, columns: Sequence[str], label: str | None) -> Iterator[Batch]:
        return iter(())


def test_what_is_no_number_is_refused_with_the_columns_there_are() -> None:
    text = str(Nothing(Path("a.x")).unusable("row 3, column 'name' holds 'Zoë', no number", "name"))
    assert text == (
        "a.x: row 3, column 'name' holds 'Zoë', no number: mend it, or name the columns to use, "
        "'dataset.columns=[height]'"
    )


def test_the_word_for_columns_is_one_that_a_shell_and_the_command_line_take() -> None:
    names = ["sepal length (cm)", "größe", "speed [m/s]", "a, b", "it's", 'the "best"', " x ", "a\\", "7"]
    (word,) = shlex.split(typed(names))
    assert configure(["dataset=file", "dataset.path=x.csv", word]).dataset.columns == names  # type: ignore[attr-defined]
    assert typed(["a", "größe"]) == "'dataset.columns=[a,größe]'"
    assert typed([f"x{k}" for k in range(13)]).startswith("dataset.columns=[…], of x0, x1, ")


def test_a_name_that_holds_a_whole_file_is_cut() -> None:
    told = listed(["height", "1.5\r\n2.5\r\n" * 500])
    assert told.startswith(r"height, 1.5\r\n2.5") and len(told) < 200 and "\n" not in told
