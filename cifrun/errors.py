"""What goes wrong in a user's hands: exceptions whose text is one clear sentence.

The front door prints the sentence and exits with code 2; from Python they are ordinary exceptions.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["CifrunError", "ConfigError", "ConvergenceError", "DataWarning", "RunError", "TrainingError", "did_you_mean"]


class CifrunError(Exception):
    """Base of every error that carries a sentence for the user."""


class ConfigError(CifrunError):
    """A name, key, type or value in the configuration is not one that is allowed."""


class DataWarning(UserWarning):
    """Something in the data makes their density grow without limit, or keeps it from being learned."""


class RunError(CifrunError):
    """A run directory or one of its files is missing, damaged, not writable or of another model."""


class ConvergenceError(CifrunError):
    """An iterative inverse did not reach its tolerance; no sample is returned in its place."""


class TrainingError(CifrunError):
    """Training can't go on, for example after too many non-finite losses in a row."""


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """`"; did you mean 'two_moons'?"` for the nearest of `allowed`, or an empty string when none is near."""
    near = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""
