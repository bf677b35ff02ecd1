"""YAML that anybody may have written: read as plain data, within bounds."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["read_yaml"]

#: Entries of a file, with all that aliases repeat, and how deep they nest.
MOST, DEEPEST = 100_000, 100


def read_yaml(text: str) -> Any:
    """What a text of YAML holds, as dicts, lists, texts, numbers, booleans, dates and None.

    Raises:
        ValueError: It is no YAML, holds more than `MOST` entries, nests deeper than `DEEPEST`, or holds itself.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _measure(text, loader)
        return yaml.load(text, loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _measure(text: str, loader: Any) -> None:
    """Refuse what has no end, before any of it is made: a few aliases of aliases stand for billions of entries."""
    sizes: dict[str, int] = {}  # by anchor
    opened: list[tuple[str | None, int]] = []  # the anchors of the entries that are open, and the count before each
    count = 0
    for event in yaml.parse(text, loader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"'{event.anchor}' holds itself")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if count > MOST or len(opened) > DEEPEST:
            raise ValueError("it is too long, or nests too deep")
