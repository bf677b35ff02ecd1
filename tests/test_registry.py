"""A registry finds what the modules of its package register, when it is first asked, and says what there is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifrun.errors import ConfigError
from cifrun.registry import Registry

#: A package whose modules register under names; one of them is in a package of its own.
FILES = {
    "__init__.py": "from cifrun.registry import Registry\nFRUITS = Registry('fruit', __name__)\n",
    "round.py": (
        "from . import FRUITS\n\n"
        "@FRUITS.register('orange')\nclass Orange:\n    '''Sweet.\n\n    And more.\n    '''\n\n"
        "@FRUITS.register('apple')\ndef apple():\n    pass\n"
    ),
    "more/__init__.py": "",
    "more/long.py": "from .. import FRUITS\n\n@FRUITS.register('banana')\nclass Banana:\n    ''' Bent. '''\n",
}


@pytest.fixture
def fruits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    for name, text in FILES.items():
        file = tmp_path / "orchard" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    import orchard

    yield orchard.FRUITS
    for name in [name for name in sys.modules if name.partition(".")[0] == "orchard"]:
        del sys.modules[name]


def test_modules_are_imported_when_a_name_is_first_looked_up(fruits: Registry) -> None:
    assert "orchard.round" not in sys.modules
    assert "pear" not in fruits
    assert "orchard.round" in sys.modules and "orchard.more.long" in sys.modules
    assert fruits["orange"] is sys.modules["orchard.round"].Orange


def test_names_are_sorted_and_told_with_the_first_line_of_their_docstrings(fruits: Registry) -> None:
    assert list(fruits) == ["apple", "banana", "orange"] and "banana" in fruits
    assert fruits.describe() == {"apple": "", "banana": "Bent.", "orange": "Sweet."}
    assert fruits.broken() == {}


@pytest.mark.parametrize(
    ("name", "hint"), [("bananna", "; did you mean 'banana'?"), ("kumquat", ""), ("orchard.round.Orange", "")]
)
def test_an_unknown_name_gets_those_that_there_are(name: str, hint: str, fruits: Registry) -> None:
    with pytest.raises(ConfigError) as error:
        fruits[name]
    assert str(error.value) == f"there is no fruit '{name}': choose one of apple, banana, orange{hint}"


def test_a_name_belongs_to_one_thing(fruits: Registry) -> None:
    def pear() -> None: ...

    def other() -> None: ...

    assert fruits.register("pear")(pear) is pear
    fruits.register("pear")(pear)  # as when a module is imported again
    with pytest.raises(ValueError, match="the fruit name 'pear' is registered twice"):
        fruits.register("pear")(other)
    assert fruits["pear"] is pear
