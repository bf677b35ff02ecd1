"""What Hydra, OmegaConf and the system say when a user makes a mistake, in one sentence of ours.

A sentence names the key, its value, what is allowed, and the name that was probably meant.
"""

from __future__ import annotations

import difflib
import errno
import re
import shlex
from collections.abc import Iterator

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from ..errors import CifrunError, did_you_mean
from ..io.text import shortened
from ..registry import CLASSES
from .config_groups import groups
from .hydra_internals import root_of

__all__ = ["explain"]

#: Characters of a sentence.
LONGEST = 2_000
#: Lines of Hydra's messages that do not help here: advice to add keys that no config has, and internals.
_NOISE = ("To append", "See https", "full_key", "object_type", "reference_type")
#: Words of Hydra, OmegaConf and Python, and ours; in this order.
_PLAIN = {
    r"^Error merging override (.*)": r"\1 is not allowed",
    r"Cannot merge DictConfig with ListConfig": "it should be a list",
    r"Cannot merge ListConfig with DictConfig": "it should be a mapping",
    r"Invalid value '.*', expected one of \[(.*)\]": r"it should be one of \1",
    r"field '.*' is not Optional": "it can't be null",
    r"Value '.*' of type '.*' could not be converted to Integer": "it should be a whole number",
    r"Value '.*' of type '.*' could not be converted to Float": "it should be a number",
    r"Value '.*' is not a valid bool.*": "it should be true or false",
    r"Could not append to config. An item is already at '(.*?)'.*: '(?!\+)(.*?)'.*": r"\1 is there already: write \2",
    r"Error resolving interpolation '(.*?)', possible.*": r"\1 can't be worked out",
    r"Recursive interpolation detected": "it refers to itself",
    r"Interpolation key '(.*)' not found": r"key '\1' not found",
    r"Exceeds the limit \((\d+) digits\) for integer string conversion.*": r"a number has more than \1 digits",
}


def explain(error: BaseException, inside: bool = False) -> str | None:
    """One sentence for a mistake that a user can make, and None for what only a programmer can.

    `inside` a job, an `OSError` is the user's when it is about space or permissions; before it, always.
    """
    sentence = _sentence(error, inside)
    return None if sentence is None else shortened(sentence, LONGEST)


def _sentence(error: BaseException, inside: bool) -> str | None:
    cause: BaseException | None = error
    while isinstance(cause, HydraException | OmegaConfBaseException):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, CifrunError):
        return str(cause)
    if isinstance(error, MissingConfigException):
        return _no_choice(error)
    if isinstance(error, OverrideParseException):
        return _no_override(error)
    if isinstance(error.__cause__, OmegaConfBaseException) and isinstance(error, ConfigCompositionException):
        return _no_key(error, error.__cause__)
    if isinstance(error, InterpolationResolutionError):
        reason = re.sub(r"^\w+( raised)? while resolving interpolation: ", "", str(error).splitlines()[0])
        return f"{error.full_key} has a value that can't be worked out: {_plain(reason)}"
    if isinstance(error, ConfigCompositionException) and "--multirun" in str(error):
        text = str(error).split("'")[1]
        return f"{text} holds more than one value: add -m to run a job for each, or put a list in brackets, [1,2]"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _flat(str(error))
    if isinstance(error, OSError) and error.filename and (not inside or not isinstance(error, FileNotFoundError)):
        return f"'{error.filename}' can't be used: {error.strerror}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF):
        return f"something can't be written: {error.strerror}"
    if isinstance(error, RuntimeError | MemoryError):
        from ..compute.memory import is_short_of_memory

        if is_short_of_memory(error):
            return "memory is too small: lower eval.chunk_size, or trainer.batch_size, or raise trainer.micro_batches"
    if not inside and isinstance(error, ValueError):  # Hydra's word on options that exclude each other
        return _flat(str(error))
    return None


def _flat(text: str) -> str:
    """The first paragraph of a message of many lines, without the advice to add keys that no config here has."""
    lines = [line.strip() for line in text.strip().split("\n\n")[0].splitlines()]
    return _plain(" ".join(line for line in lines if not line.startswith(_NOISE)))


def _plain(text: str) -> str:
    """A message with what it says of types and of its own machinery in words that are not a programmer's."""
    for pattern, words in _PLAIN.items():
        text = re.sub(pattern, words, text)
    return text


def _no_choice(error: MissingConfigException) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return _flat(str(error))
    for registry in CLASSES:
        if group == registry.noun and name in (broken := registry.broken()):
            return broken[name]
    options = list(error.options or [])
    return f"there is no {group} '{name}': choose one of {', '.join(options)}{did_you_mean(name, options)}"


def _no_override(error: OverrideParseException) -> str:
    text = error.override
    if "=" in text.lstrip("=") and text[0] not in "=+~":
        key, _, value = text.partition("=")
        if not re.fullmatch(r"[\w@:/-]+(\.[\w@:/-]+)*", key):
            return f"'{key}' is no key: write KEY=VALUE, for example trainer.max_steps=1000"
        if function := re.search(r"Unknown function '(.*?)'", str(error)):
            reason = f"there is no function '{function[1]}'"
        else:
            reason = "signs that are neither letters nor digits have a meaning of their own"
        quoted = f"{key}=\"'{value}'\""
        if re.search(r"['\"$`\\]", value):
            quoted = shlex.quote(f"{key}={QuotedString(text=value, quote=Quote.single).with_quotes()}")
        return f"{key} = {value} can't be read, as {reason}: if it is meant as text, put it in quotes, {quoted}"
    options = groups().get(text)
    hint = f", for example {text}={options[0]}" if options else ", for example trainer.max_steps=1000"
    return f"'{text}' is not an override: write KEY=VALUE{hint}"


def _no_key(error: ConfigCompositionException, cause: OmegaConfBaseException) -> str:
    key = str(cause.full_key or cause.key)
    if not str(error).startswith("Could not override"):
        return f"{_flat(str(error))}: {_flat(str(cause))}"
    root = root_of(cause)
    if root is None:
        return f"there is no key '{key}'"
    parent, _, last = key.rpartition(".")
    holder = OmegaConf.select(root, parent) if parent else root
    allowed = [str(name) for name in holder] if isinstance(holder, DictConfig) else []
    if not parent:
        allowed = [name for name in allowed if name != "hydra"]
        allowed += [group for group in groups() if group not in allowed]
    # A name that is close here is a better guess than one that is close elsewhere.
    if near := difflib.get_close_matches(last, allowed, n=1, cutoff=0.5):
        near = [f"{parent}.{near[0]}" if parent else near[0]]
    else:
        others = [other for other in _walk(root) if difflib.get_close_matches(last, [other.rpartition(".")[2]])]
        near = difflib.get_close_matches(key, others, n=1, cutoff=0)
    place = f" in {parent}" if parent else ""
    choices = f": allowed{place} are {', '.join(allowed)}" if allowed else ""
    return f"there is no key '{key}'{choices}" + (f"; did you mean '{near[0]}'?" if near else "")


def _walk(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Every dotted key, but Hydra's own."""
    for key in map(str, config):
        if prefix or key != "hydra":
            yield f"{prefix}{key}"
            settled = not (OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, key))
            if settled and isinstance(config[key], DictConfig):
                yield from _walk(config[key], f"{prefix}{key}.")
