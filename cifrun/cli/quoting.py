"""Words that hold texts of a user's file, names of columns and signs, taken as they are typed.

dataset.columns=[sepal length (cm),größe]   →   dataset.columns=['sepal length (cm)','größe']

Hydra would read ( , ; and letters beyond ASCII as its grammar.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra.core.override_parser.types import Quote, QuotedString

from ..config.roles import reading

__all__ = ["quote_text", "with_reading"]

#: The keys whose value is a text, and a list of texts.
TEXTS, LISTS = ("dataset.delimiter", "dataset.decimal", "dataset.split_column"), ("dataset.columns",)
#: An item of a list: in quotes, or up to the next comma.
_ITEM = re.compile(r"""(?:^|,)(\s*"(?:\\.|[^"\\])*"\s*(?=,|$)|\s*'(?:\\.|[^'\\])*'\s*(?=,|$)|[^,]*)""")


def quote_text(override: str, multirun: bool) -> str:
    """The override with quotes around its texts, if its key is one of those that hold them."""
    key, equals, value = override.partition("=")
    if key in TEXTS and value and value != "null" and value[0] not in "'\"":
        if multirun and len(value) > 2 and "," in value:  # several values
            return key + equals + ",".join(part if part[:1] in "'\"" else _quoted(part) for part in value.split(","))
        return override if multirun and re.fullmatch(r"\w+\(.*\)", value) else key + equals + _quoted(value)
    if key in LISTS and value[:1] == "[" and value[-1:] == "]":
        lists = re.split(r"(?<=\]),(?=\[)", value) if multirun else [value]
        return key + equals + ",".join(f"[{','.join(map(_item, _items(part[1:-1])))}]" for part in lists)
    return override


def with_reading(overrides: Sequence[str]) -> list[str]:
    """The overrides of a command on a run; those that say how or where a file is read are there whatever conf/ has."""
    verbs = {"run": "eval", "resume": "train"}
    verb = next((verbs[key] for key in (word.partition("=")[0] for word in overrides) if key in verbs), None)
    known = reading(verb) if verb else ()
    return [f"++{word}" if word.partition("=")[0] in known else word for word in overrides]


def _quoted(text: str) -> str:
    return QuotedString(text=text, quote=Quote.single).with_quotes()


def _items(inner: str) -> list[str]:
    """The items of a list, at commas outside quotes; a quote within a name is a part of it."""
    return [found.strip() for found in _ITEM.findall(inner)] if inner.strip() else []


def _item(item: str) -> str:
    """One item as Hydra must have it; what is quoted stays."""
    return item if item[:1] in "'\"" and item[-1:] == item[:1] and len(item) > 1 else _quoted(item)
