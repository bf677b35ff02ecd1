"""A run that leaves no directory: its checkpoints and records are kept in memory, for as long as it lasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config.schema import Config
from ..errors import RunError
from .checkpoint import Checkpoint
from .records import Silent

__all__ = ["Rows", "Unwritten"]


class Rows(Silent):
    """The records of a run in memory: of all that a `Tracker` takes, the numbers.

    Attributes:
        rows: {"step": …, name: number, …}, as in `metrics.jsonl`.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Some numbers at a step."""
        self.rows.append({"step": step, **{tag: float(value) for tag, value in values.items()}})


class Unwritten:
    """What stands in for a `RunDirectory` where there is none.

    Attributes:
        records: The numbers of the run.
    """

    writes, figures, path = True, None, Path("(a run without a directory)")

    def __init__(self) -> None:
        self.records = Rows()
        self._checkpoints: dict[str, Checkpoint] = {}

    def create(self, config: Config) -> None:
        """Nothing is to be made."""

    def write_summary(self, content: Mapping[str, Any]) -> None:
        """The summary is returned."""

    def summary(self) -> dict[str, Any]:
        """None is kept."""
        return {}

    def check_data(self, fingerprint: str | None) -> None:
        """The data are those of the call."""

    def checkpoint_path(self, tag: str) -> Path:
        """What to call a checkpoint."""
        return Path("the model")

    def has_checkpoint(self, tag: str) -> bool:
        """Whether there is such a checkpoint."""
        return tag in self._checkpoints

    def best_tag(self) -> str:
        """The checkpoint to use, as of `RunDirectory`."""
        return next((tag for tag in ("final", "best") if self.has_checkpoint(tag)), "latest")

    def load_best(self) -> tuple[str, Checkpoint]:
        """The checkpoint to use, and its tag."""
        return (tag := self.best_tag()), self.load_checkpoint(tag)

    def drop_checkpoint(self, tag: str) -> None:
        """Forget a checkpoint."""
        self._checkpoints.pop(tag, None)

    def save_checkpoint(self, tag: str, checkpoint: Checkpoint) -> None:
        """Keep a copy."""
        tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in checkpoint.tensors.items()}
        self._checkpoints[tag] = Checkpoint(tensors, checkpoint.state)

    def load_checkpoint(self, tag: str) -> Checkpoint:
        """The last one that was kept.

        Raises:
            RunError: There is none.
        """
        if tag not in self._checkpoints:
            raise RunError(f"there is no checkpoint '{tag}'")
        return self._checkpoints[tag]

    def metrics(self) -> list[dict[str, Any]]:
        """The rows so far."""
        return self.records.rows

    def tracker(self, resume_from: int | None = None, absent: Sequence[str] = ()) -> Rows:
        """What keeps the records."""
        return self.records

    def how_to_go_on(self) -> str:
        """What follows "stopped at step 3 of 10"."""
        return ""
