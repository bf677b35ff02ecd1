"""What all formats of tables share: how many rows are read at once, and how columns are named in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cifrun.data.tables.source import NUMBERS, ROWS, Batch, Source, at_once, listed


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
    text = str(Nothing(Path("a.x")).unusable("row 3, column 'name' holds 'Zoë', no number"))
    assert text == (
        "a.x: row 3, column 'name' holds 'Zoë', no number: mend it, or name the columns to use, "
        "dataset.columns=[…], of height, name"
    )
