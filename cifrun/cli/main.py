"""The front door: a verb, its overrides, and one sentence when something is wrong with them.

`cifrun VERB [KEY=VALUE …]`. Help costs nothing: only a verb that needs Hydra, torch or a registry imports it.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from ..errors import CifrunError, ConfigError, RunError, did_you_mean
from ..io.terminal import mute, not_printed, settle_streams, tell
from .help import VERBS, catalogue, usage, usage_of

__all__ = ["main"]

#: Hydra's options that need no verb, as they do nothing with the config but show it.
VERBLESS = ("--cfg", "-c", "--info", "-i", "--hydra-help")


def _split(words: Sequence[str]) -> tuple[str, list[str]]:
    """(the verb, the words that remain)."""
    verb = next((word for word in words if word in VERBS), None)
    if verb is not None and (words[0] == verb or words[0].startswith("-")):
        place = words.index(verb)
        return verb, [*words[:place], *words[place + 1 :]]
    if any(word in VERBLESS for word in words):
        return "show", list(words)
    word = words[0]
    if "=" in word or word.startswith("-"):
        raise ConfigError(f"no verb before '{word}': write cifrun VERB {word}, with a verb of {', '.join(VERBS)}")
    raise ConfigError(f"there is no verb '{word}': choose one of {', '.join(VERBS)}{did_you_mean(word, VERBS)}")


def _dataset_to_fetch(words: Sequence[str]) -> list[str]:
    """fetch NAME … → dataset=NAME …"""
    first, name, *rest = [*words, "", ""]
    if first != "fetch" or not name or "=" in name or name.startswith("-"):
        what = " ".join(["cifrun data", *words])
        raise ConfigError(f"{what}: write cifrun data fetch NAME, as in cifrun data fetch power")
    return [f"dataset={name}", *filter(None, rest)]


def _report(words: Sequence[str]) -> int:
    """DIR … [output=DIR] [--watch]"""
    from ..reporting.report import report, watch

    output = None
    directories = []
    for word in words:
        if word in ("", "output="):
            raise ConfigError(f"cifrun report {word or repr(word)} names no directory: it would be the current one")
        if word.startswith("output="):
            output = Path(word.removeprefix("output=")).expanduser()
        elif Path(word).is_dir() or not (word.startswith("-") or "=" in word):
            directories.append(Path(word))
        elif word != "--watch":
            raise ConfigError(f"cifrun report takes directories, output=DIR and --watch, but got '{word}'")
    if not directories:
        raise ConfigError("cifrun report needs a directory to look into: write cifrun report outputs")
    (watch if "--watch" in words else report)(directories, output)
    return 0


def _main(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"cifrun {version('cifrun')}")
        return 0
    if any(word in ("-sc", "--shell-completion") for word in words):
        from .completion import complete
        from .hydra_app import compose

        return complete(words) if "COMP_LINE" in os.environ else compose("show", words)
    verb, rest = _split(words)
    if any(word in ("-h", "--help") for word in rest):
        print(usage_of(verb))
        return 0
    if verb == "list":
        if rest:
            raise ConfigError(f"cifrun list takes nothing more, but got '{rest[0]}'")
        print(catalogue())
        return 0
    if verb == "report":
        return _report(rest)
    if verb == "data":
        rest = _dataset_to_fetch(rest)
    from .hydra_app import compose

    return compose(verb, rest)


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line `argv` says; the exit code, 0 or, with a sentence on stderr, 2."""
    try:
        settle_streams()
        _check_place()
        code = _main(list(sys.argv[1:] if argv is None else argv))
        if (error := not_printed()) is not None:
            tell(f"the work is done, but not all there was to say could be printed: {error.strerror or error}")
            return code or 2
        return code
    except CifrunError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exception(error)
        else:
            tell(str(error))
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        mute()
        return 0


def _check_place() -> None:
    try:
        os.getcwd()
    except OSError:
        raise RunError("the working directory is gone: change to one that is there") from None
