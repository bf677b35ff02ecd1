"""The head of `summary.json`: what was run, how far it got, and with what."""

from __future__ import annotations

from dataclasses import dataclass

from .metrics import NUMBERS
from .validation import kinds_of, saved

__all__ = ["KINDS", "TEST", "Summary"]


@dataclass(kw_only=True)
class Summary:
    """All of `summary.json` but "test", the test result, which is there once the run is done.

    Attributes:
        status: running, interrupted, failed, completed or stopped_early.
        error: Why it failed, in one sentence.
        data_fingerprint: Of the user's file that the data come from.
        data_warnings: What makes their density grow without limit, or keeps it from being learned.
        best_valid_log_likelihood: In nats.
        versions: Of this package, of Python and of torch.
        git_commit: That of the source that ran, if it was in a git checkout.
    """

    status: str = saved("a text")
    error: str | None = saved("a text", "null")
    dataset: str = saved("a text")
    data_fingerprint: str | None = saved("a text", "null")
    data_warnings: list[str] = saved("a list of texts")
    flow: str = saved("a text")
    cif: bool = saved("true or false")
    seed: int = saved("a whole number from 0")
    parameters: int = saved("a whole number from 0")
    steps: int = saved("a whole number from 0")
    skipped_steps: int = saved("a whole number from 0")
    best_valid_log_likelihood: float | None = saved("a number", "null")
    wall_seconds: float = saved("a number", "null")
    device: str = saved("a text")
    versions: dict[str, str] = saved("a mapping")
    git_commit: str | None = saved("a text", "null")


#: What the fields of `summary.json` may be, and those of the test result: numbers of the table of metrics, and others.
KINDS = {**kinds_of(Summary), "test": ("a mapping",)}
TEST = {
    **{name: ("a number", "null") for metric in NUMBERS for name in (metric.name, f"{metric.name}_se")},
    "exact": ("true or false",),
    **dict.fromkeys(("importance_samples", "num_data"), ("a whole number from 0",)),
}
#: What any other field of a test result may be: a table of a diagnostic, its verdict, what it left out.
RESULT = ("a number", "a text", "a list", "null")
