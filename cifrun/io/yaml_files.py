"""YAML that anybody may have written: read as plain data, within bounds.

Numbers are those that one reads as such: `12`, `-1.5`, `1.0e-3`. What else YAML 1.1 takes for one is a text here, as of
base 2, 8, 16 or 60, with underscores, and dates. Some of these take time that grows with the square of their length.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

__all__ = ["read_yaml"]

#: Entries of a file, with all that aliases repeat, and how deep they nest.
MOST, DEEPEST = 100_000, 100


#: What a text without quotes stands for, where it is not a text: by its tag, how it looks, and what it begins with.
NULL = re.compile(r"~|null|Null|NULL|")
BOOL = re.compile(r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF")
INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
FLOAT = re.compile(
    r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", re.ASCII
)
SIGNS = "-+0123456789."
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Plain(_BASE):
    """PyYAML's safe loader, with fewer kinds of values: what is tagged as another is refused."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        """A mapping by names, which are texts as they are written."""
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(None, None, "no mapping", node.start_mark)
        if any(not isinstance(key, yaml.ScalarNode) for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "a name that is no text", node.start_mark)
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}

    def construct_truth(self, node: Any) -> bool:
        """True or False."""
        text = self.construct_scalar(node)
        if BOOL.fullmatch(text):
            return text.lower() in ("yes", "true", "on")
        raise yaml.constructor.ConstructorError(None, None, "neither true nor false", node.start_mark)

    def construct_number(self, node: Any) -> float:
        """A number as it looks, whatever its tag says."""
        text = self.construct_scalar(node)
        if INT.fullmatch(text):
            return int(text)
        if FLOAT.fullmatch(text):
            return float(re.sub(r"\.(?=[inIN])", "", text))  # .inf and .nan, of which Python has no point
        raise yaml.constructor.ConstructorError(None, None, "no number", node.start_mark)


def read_yaml(text: str) -> Any:
    """What a text of YAML holds, as dicts by texts, lists, texts, numbers, booleans and None.

    Raises:
        ValueError: It is no YAML, holds more than `MOST` entries, nests deeper than `DEEPEST`, holds itself, or is not
            such data.
    """
    try:
        _measure(text, _Plain)
        return yaml.load(text, _Plain)
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


for _tag, _look, _first in (
    ("null", NULL, ["~", "n", "N", ""]),
    ("bool", BOOL, list("yYnNtTfFoO")),
    ("int", INT, list(SIGNS)),
    ("float", FLOAT, list(SIGNS)),
):
    _Plain.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_look.pattern})\\Z"), _first)
for _tag, _make in (
    ("null", _BASE.construct_yaml_null),
    ("bool", _Plain.construct_truth),
    ("int", _Plain.construct_number),
    ("float", _Plain.construct_number),
    ("str", _BASE.construct_yaml_str),
    ("seq", _BASE.construct_yaml_seq),
    ("map", _BASE.construct_yaml_map),
):
    _Plain.add_constructor(f"tag:yaml.org,2002:{_tag}", _make)
_Plain.add_constructor(None, _BASE.construct_undefined)
