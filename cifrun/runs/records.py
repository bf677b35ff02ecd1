"""What a run leaves while it goes on: `metrics.jsonl`, a line of JSON a logged step, and TensorBoard's events.

Both records are written to the run directory itself. Going on from step k forgets everything after it in both, so that
a run that was killed and continued reads like one that never stopped.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import IO, Any

from ..errors import RunError
from ..io.files import inside, replacing, writing
from .metrics import HEADLINE, HPARAMS
from .tensorboard import Events
from .validation import KINDS

__all__ = ["METRICS", "Silent", "Tracker", "read_metrics"]

#: What the tags of a test result begin with.
RESULTS = ("test/", "best/")
#: The name of the metrics file in a run directory.
METRICS = "metrics.jsonl"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`; a line that was cut off when a process was killed is left out."""
    rows = []
    with open(path, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and KINDS["a whole number from 0"](row.get("step")):
                rows.append(row)
    return rows


class Tracker(Events):
    """Writes the metrics, pictures and settings of one run to TensorBoard, and the metrics to `metrics.jsonl` too.

    Arguments:
        directory: The run directory, made if missing. A tracker opened on one that has records adds to them.
        resume_from: The last step that counts: records of later steps are dropped here and hidden in TensorBoard.
        absent: Prefixes of tags that this run never logs, so that no chart of them stays empty.

    Raises:
        RunError: The directory can't be written to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Tracker(Path(folder)) as tracker:
        ...     tracker.scalars(10, {"train/loss": 1.2})
        ...     read_metrics(Path(folder) / METRICS)[0]["train/loss"]
        1.2
    """

    def __init__(self, directory: Path, *, resume_from: int | None = None, absent: Sequence[str] = ()) -> None:
        path = directory / METRICS
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            fresh = not inside(path, directory).exists()
            _mend(path, resume_from)
            self._metrics: IO[str] = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by `close`)
            self._path = path
            # TensorBoard hides what comes after a purge step, but not at the first that it meets.
            purge = resume_from + 1 if resume_from is not None else 0 if fresh else None
            super().__init__(directory, purge)
        self._step = resume_from or 0
        self._last: dict[str, float] = {}
        if fresh:
            self.charts(absent)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One line of `metrics.jsonl`, `{"step": …, "time": unix seconds, **values}`, and TensorBoard's scalars.

        A value that is not finite is null in the file.
        """
        self._write(step, values)
        for tag, value in values.items():
            self.scalar(step, tag, float(value))

    def scalar(self, step: int, tag: str, number: float) -> None:
        """A number at a step, for TensorBoard alone."""
        self._last[tag] = number
        super().scalar(step, tag, number)

    def result(self, step: int, values: Mapping[str, float]) -> None:
        """What the run is worth in the end: one line of `metrics.jsonl`, in the place of an earlier one of the same
        step; in TensorBoard a point of each number that its page HPARAMS shows, and no curve.
        """
        self._metrics.close()
        with writing(self._path):
            _mend(self._path, None, tested=step)
            self._metrics = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (closed by `close`)
        self._write(step, values)
        for tag, value in values.items():
            if tag.removeprefix("test/") in {*HEADLINE, *HPARAMS} or not tag.startswith("test/"):
                self.scalar(step, tag, float(value))

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        """One line of `metrics.jsonl`."""
        numbers = {tag: float(value) for tag, value in values.items()}
        with writing(self._path):
            self._metrics.write(_line({"step": step, "time": round(time.time(), 3), **numbers}))
            self._metrics.flush()
        self._step = step

    def hparams(self, settings: Mapping[str, bool | int | float | str], metrics: Mapping[str, float]) -> None:
        """The run's row on TensorBoard's page HPARAMS: its settings and how it ended.

        May be called with empty `metrics` when the run begins, so that it is listed while it goes on. A final metric
        that `scalars` has not written yet is written as a scalar of the last step: the page reads it from there.
        """
        self.begin(settings)
        for tag, value in metrics.items():
            if self._last.get(tag) != value:
                self.scalar(self._step, tag, float(value))
        if metrics:
            self.end()

    def close(self) -> None:
        """Write what is left and close the files; a second call does nothing."""
        with writing(self._path):
            self._metrics.close()
        super().close()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # What can't be written is told once.
        with nullcontext() if kind is None else suppress(RunError):
            self.close()


class Silent:
    """Stands in for a `Tracker` in a process that leaves the records to another: every method does nothing."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _mend(path: Path, last_step: int | None, tested: int | None = None) -> None:
    """Drop what a killed process left half-written; going on from `last_step`, all that came after it; and what was
    said of a test after the step `tested`, which is said anew.
    """
    if not path.exists():
        return
    rows = (row for row in read_metrics(path) if last_step is None or row["step"] <= last_step)
    kept = "".join(
        _line(row) for row in rows if row["step"] != tested or not any(tag.startswith(RESULTS) for tag in row)
    )
    if kept.encode() != path.read_bytes():
        with replacing(path) as temporary:
            temporary.write_text(kept, encoding="utf-8")


def _line(row: Mapping[str, Any]) -> str:
    """One line of JSON. JSON has no NaN or infinity: they become null."""
    return json.dumps({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}) + "\n"
