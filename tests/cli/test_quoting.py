"""Names of columns and signs reach the config as they were typed."""

from __future__ import annotations

from typing import Any

import pytest

from cifrun.cli.hydra_app import configure
from cifrun.cli.overrides import prepare
from cifrun.cli.quoting import with_reading


def dataset(*words: str) -> Any:
    return configure(["dataset=file", "dataset.path=x.csv", *words]).dataset


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("[sepal length (cm),größe]", ["sepal length (cm)", "größe"]),
        ("[größe]", ["größe"]),
        ("[a, b , c]", ["a", "b", "c"]),
        ("[1,3]", ["1", "3"]),
        ("[null,true,1e3,007]", ["null", "true", "1e3", "007"]),
        ("[speed [m/s],a{b},c=d,e:f,~g]", ["speed [m/s]", "a{b}", "c=d", "e:f", "~g"]),
        ("[it's,5' wide]", ["it's", "5' wide"]),
        ("[\"a, b\",'c, d']", ["a, b", "c, d"]),
        (r'["the \"best\""]', ['the "best"']),
        ("[]", []),
    ],
)
def test_names_are_taken_as_they_are_typed(word: str, names: list[str]) -> None:
    assert dataset(f"dataset.columns={word}").columns == names


def test_all_columns_are_still_a_word() -> None:
    assert dataset("dataset.columns=all").columns == "all"


@pytest.mark.parametrize("mark", [",", ";", "|", "\\t", " ", ":", "=", "#", "'", "$"])
def test_signs_are_taken_as_they_are_typed(mark: str) -> None:
    if mark != "'":
        assert dataset(f"dataset.delimiter={mark}").delimiter == mark
    assert dataset(f'dataset.delimiter="{mark}"').delimiter == mark
    assert dataset("dataset.delimiter=null").delimiter is None


@pytest.mark.parametrize("sign", [",", "."])
def test_decimal_signs_are_taken_as_they_are_typed(sign: str) -> None:
    assert dataset(f"dataset.decimal={sign}").decimal == sign


def test_several_values_of_a_multirun_stay_several() -> None:
    words = ["dataset.columns=[a,größe],[b (cm)]", "dataset.decimal=.,auto", "dataset.delimiter=,"]
    _, (columns, decimal, delimiter) = prepare(words, multirun=True)
    assert list(columns.sweep_string_iterator()) == ["[a,'größe']", "['b (cm)']"] or columns.is_sweep_override()
    assert decimal.is_sweep_override() and not delimiter.is_sweep_override()


def test_what_says_how_a_file_is_read_is_there_for_every_run() -> None:
    assert with_reading(["run=x", "dataset.path=y", "eval.seed=1"]) == ["run=x", "++dataset.path=y", "eval.seed=1"]
    assert with_reading(["resume=x", "dataset.path=y"]) == ["resume=x", "++dataset.path=y"]
    assert with_reading(["resume=x", "dataset.header=true"]) == ["resume=x", "dataset.header=true"]
    assert with_reading(["dataset.path=y"]) == ["dataset.path=y"]
