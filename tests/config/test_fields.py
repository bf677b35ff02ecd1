"""A definition of a setting is read back as it was written, and every setting of the program has one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field
from pydantic.dataclasses import dataclass

from cifrun.config.fields import STRICT, Role, Sizes, UserPath, setting, settings
from cifrun.config.schema import Config
from cifrun.registry import DATASETS, FLOWS


@dataclass(config=STRICT)
class Inner:
    rate: float = setting(0.5, "how fast", unit="steps", gt=0, lt=1)
    shown: bool = setting(True, "whether it shows", role=Role.EXECUTION)


@dataclass(config=STRICT)
class Outer:
    needed: str = setting(..., "no default")
    inner: Inner = setting(Inner, "a group", role=Role.MEASUREMENT)
    sizes: Sizes | Literal["zero"] = setting([3, 4], "sizes, or zero")
    many: Annotated[int, Field(ge=1)] | Literal["all"] = setting("all", "how many")
    norm: Literal["none", "batch"] = setting("none", "what norm")
    mode: bool | Literal["auto"] = setting("auto", "mode")
    path: UserPath | None = setting(None, "a file")


FOUND = {found.name: found for found in settings(Outer, "top")}


def test_settings_come_in_the_order_of_the_fields_with_dotted_names() -> None:
    names = ["needed", "inner.rate", "inner.shown", "sizes", "many", "norm", "mode", "path"]
    assert list(FOUND) == [f"top.{name}" for name in names]


def test_a_setting_is_read_back_as_it_was_defined() -> None:
    rate = FOUND["top.inner.rate"]
    assert (rate.type, rate.default, rate.range, rate.choices) == ("number", 0.5, "> 0, < 1", ())
    assert (rate.schema["description"], rate.schema["unit"], rate.role) == ("how fast", "steps", Role.MEASUREMENT)


def test_a_setting_without_a_role_has_that_of_its_group() -> None:
    assert FOUND["top.inner.shown"].role is Role.EXECUTION
    assert FOUND["top.needed"].role is Role.TRAINED


@pytest.mark.parametrize(
    ("name", "kind", "span", "choices"),
    [
        ("needed", "text", "", ()),
        ("sizes", "list of integer or 'zero'", "at most 64 long, ≥ 1, ≤ 65536", ("zero",)),
        ("many", "integer or 'all'", "≥ 1", ("all",)),
        ("norm", "'none' or 'batch'", "", ("none", "batch")),
        ("mode", "true or false or 'auto'", "", ("true", "false", "auto")),
        ("path", "path or null", "", ()),
    ],
)
def test_types_ranges_and_choices_are_words(name: str, kind: str, span: str, choices: tuple[str, ...]) -> None:
    found = FOUND[f"top.{name}"]
    assert (found.type, found.range, found.choices) == (kind, span, choices)


def test_a_comment_adds_the_unit_and_the_choices_that_the_meaning_leaves_out() -> None:
    assert FOUND["top.inner.rate"].comment == "how fast [steps]"
    assert FOUND["top.norm"].comment == "what norm: none or batch"
    assert FOUND["top.mode"].comment == "mode: true, false or auto"
    assert FOUND["top.sizes"].comment == "sizes, or zero"


def test_lists_are_not_shared_between_configs() -> None:
    first, second = Outer(needed="x"), Outer(needed="y")
    assert first.sizes == second.sizes and first.sizes is not second.sizes


def test_a_tilde_in_a_path_is_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Outer(needed="x", path="~/file").path == Path("/home/somebody/file")


@pytest.mark.parametrize("cls", [Config, *(DATASETS[n] for n in DATASETS), *(FLOWS[n] for n in FLOWS)])
def test_every_setting_has_a_meaning_that_is_one_phrase(cls: type) -> None:
    for found in settings(cls):
        meaning = found.schema["description"]
        assert meaning and meaning == meaning.strip(". "), found.name
        assert found.type != "any", found.name
