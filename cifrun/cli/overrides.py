"""The words of a command line: Hydra's options, and overrides KEY=VALUE.

Words are split, quoted where they hold a path, and checked.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from itertools import accumulate
from typing import NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString

from ..compute.launch_env import started
from ..config.roles import holds_path
from ..errors import ConfigError
from ..io.terminal import tell
from ..registry import CLASSES, OBJECTIVES, OPTIMIZERS
from .config_groups import groups
from .hydra_internals import get_args_parser
from .plugin_configs import defaults
from .quoting import quote_text, with_reading
from .resolvers import PLACES
from .retired import renamed

__all__ = ["prepare", "split"]

#: The key by which a group keeps what was chosen in it.
NAMES = {registry.noun: registry.key for registry in (*CLASSES, OPTIMIZERS, OBJECTIVES)}
#: Brackets in brackets that a value may have; the parser would run out of stack.
DEEPEST = 20


def split(words: Sequence[str]) -> tuple[argparse.Namespace, list[str], list[str]]:
    """(Hydra's arguments, its options as typed, the overrides as typed), whatever their order.

    Raises:
        ConfigError: Hydra does not have one of the options.
    """

    def fail(message: str) -> NoReturn:
        raise ConfigError(message)

    parser = get_args_parser()
    parser.error = fail  # type: ignore[method-assign]
    arguments = parser.parse_intermixed_args(words)
    options = list(words)
    for override in arguments.overrides:
        options.remove(override)
    return arguments, options, arguments.overrides


def prepare(overrides: Sequence[str], multirun: bool) -> tuple[list[str], list[Override]]:
    """Overrides as Hydra must have them, and parsed.

    Raises:
        ConfigError: Hydra would refuse an override, in words that name neither the key nor the choices.
    """
    for word in overrides:
        if _nesting(word) > DEEPEST:
            raise ConfigError(f"{word.partition('=')[0]} nests deeper than {DEEPEST} brackets")
    words = (quote_text(word, multirun) for word in renamed(_last(overrides)))
    ready = with_reading([_open(_inside(_quote_path(word, multirun))) for word in words])
    parsed = OverridesParser.create().parse_overrides(ready)
    _check(parsed)
    return ready, parsed


def _last(words: Sequence[str]) -> list[str]:
    """The words without those whose key is typed again further on, as by a script that adds to what it was given.

    Of two values that differ, a line on stderr says which one counts.
    """
    kept: dict[str, str] = {}
    process = started()
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals:
            key = word
        elif (before := kept.pop(key, word)) != word and not (process and process.rank):
            tell(f"{key} is given twice: {word} counts, and {before} does not")
        kept[key] = word
    return list(kept.values())


def _nesting(text: str) -> int:
    """How deep the brackets of a word are nested."""
    return max(accumulate((sign in "[{(") - (sign in ")}]") for sign in text), default=0)


def _quote_path(override: str, multirun: bool) -> str:
    """`run=a=b (1)` → `run='a=b (1)'`; the commas of a multirun still separate.

    The text of a key that holds a path is taken as it stands, where Hydra would read = , ( or a space as its grammar.
    """
    key, equals, value = override.partition("=")
    if not value or value == "null" or value[0] in "'\"" or not (key in PLACES or holds_path(key)):
        return override
    if multirun and re.match(r"\w+\(.*\)$|\[", value):  # glob(…), choice(…): the grammar of sweeps
        return override
    parts = value.split(",") if multirun else [value]
    if key not in PLACES:  # which may say ${now:%H-%M}
        parts = [part.replace("${", "\\${") for part in parts]
    return key + equals + ",".join(QuotedString(text=part, quote=Quote.single).with_quotes() for part in parts)


def _inside(override: str) -> str:
    """`hydra.sweep.subdir=TEXT` with a text that is looked at when it is worked out, before any directory is made."""
    key, _, value = override.partition("=")
    text = value.strip("'\"")
    if key != "hydra.sweep.subdir" or text in ("", "null") or text[0] in "[{":
        return override
    inner = QuotedString(text=text, quote=Quote.double).with_quotes()
    return f"{key}={QuotedString(text=f'${{cifrun.inside:{inner}}}', quote=Quote.single).with_quotes()}"


def _open(override: str) -> str:
    """`flow.kwargs.bins=4` → `++flow.kwargs.bins=4` where `kwargs` is an open mapping: any key may be set in one."""
    group, _, rest = override.partition("=")[0].partition(".")
    field, dot, _ = rest.partition(".")
    registry = next((registry for registry in CLASSES if registry.noun == group), None)
    if registry is None or not field or not (dot or "{" in override):
        return override
    is_open = any(isinstance(defaults(registry[name]).get(field), dict) for name in registry)
    return f"++{override}" if is_open else override


def _check_named(override: Override) -> None:
    """Refuse a place that is the empty text, which a shell makes of $NAME: it would be the current directory."""
    key, text = override.key_or_group, override.input_line
    if override.is_delete() or override.is_sweep_override():
        return
    if override.value() == "":
        raise ConfigError(f"{text} is not allowed, as nothing follows the =: name a place, or leave out {key}")
    if key == "resume" and override.value() is None:
        raise ConfigError(f"{text} is not allowed: name the run to go on with, or leave out {key} to train anew")


def _check_names(overrides: Sequence[Override]) -> None:
    """Refuse a name that another choice contradicts: flow=maf, with the settings of maf, and flow.family=sos."""
    options, typed = groups(), {override.key_or_group: override for override in overrides}
    for key, override in typed.items():
        group, _, name = key.partition(".")
        if NAMES.get(group) != name or override.is_delete() or group not in options:
            continue
        choice, text, value = typed.get(group), override.input_line, override.value()
        if choice is None:
            if override.is_sweep_override() or str(value) in options[group]:
                instead = f"{group}={str(text).partition('=')[2]}"
                raise ConfigError(f"{text} is not allowed, as each {group} has defaults of its own: write {instead}")
            continue
        if str(choice.value()) != str(value):
            raise ConfigError(f"{text} contradicts {choice.input_line}: leave one of them out")


def _check(overrides: Sequence[Override]) -> None:
    options = groups()
    _check_names(overrides)
    for override in overrides:
        key, text = override.key_or_group, override.input_line
        if not key:
            raise ConfigError(f"'{text}' is not an override: write KEY=VALUE")
        if key in PLACES or holds_path(key):
            _check_named(override)
        if key == "hydra.output_subdir":
            raise ConfigError(f"{text} is not allowed: the config.yaml of a run holds all there is to say")
        if key == "hydra":
            raise ConfigError(f"{text} is not allowed: hydra.KEY=VALUE changes one of its settings")
        if override.is_delete() and key in ("flow", "debug"):  # conf/config.yaml looks at both
            raise ConfigError(f"{text} is not allowed, as '{key}' would be missing: write {key}=NAME for another")
        if key not in options or override.is_delete() or override.is_sweep_override():
            continue
        if (override.is_add() or override.is_force_add()) and override.package is None:
            raise ConfigError(f"{key} is chosen already: write {str(text).lstrip('+')} to choose another")
        value = override.value()
        several = isinstance(value, dict) or (isinstance(value, list) and all(isinstance(name, str) for name in value))
        if not (isinstance(value, str) or (several and key not in ("flow", "debug"))):
            raise ConfigError(f"{text} is not allowed: choose one of {', '.join(options[key])}")
