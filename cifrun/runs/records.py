"""What a run leaves while it goes on: `metrics.jsonl`, TensorBoard events, and the progress in the terminal.

Both records are written to the run directory itself. Going on from step k forgets everything after it in both, so that
a run that was killed and continued reads like one that never stopped.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..io.files import replacing, writing
from .metrics import meaning

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard.writer import SummaryWriter

__all__ = ["METRICS", "Progress", "Silent", "Tracker", "read_metrics"]

#: The name of the metrics file in a run directory.
METRICS = "metrics.jsonl"

#: TensorBoard's page "Custom Scalars": charts in the order in which one reads them, and curves that belong together in
#: one chart. (The other pages sort by name.)
LAYOUT: dict[str, dict[str, list[Any]]] = {
    "log-likelihood [nats]": {
        "training and validation": ["Multiline", ["^train/elbo$", "^valid/log_likelihood$"]],
        "bound and estimate, validation": ["Multiline", ["^valid/elbo$", "^valid/log_likelihood$"]],
    },
    "invertibility": {
        "bi-Lipschitz constant and its ceiling": [
            "Multiline",
            ["^diagnostics/bi_lipschitz$", "^diagnostics/lipschitz_ceiling$"],
        ],
        "Lip F, Lip F⁻¹": ["Multiline", ["^diagnostics/lip_f$", "^diagnostics/lip_f_inverse$"]],
    },
    "topology": {
        "mass off the support": ["Multiline", ["^diagnostics/mass_off_support$"]],
        "coverage of the data by the 95 % region": ["Multiline", ["^diagnostics/coverage$"]],
    },
    "trust": {
        "Pareto k̂ of the importance weights": ["Multiline", ["^diagnostics/pareto_k$", "^diagnostics/pareto_k_max$"]],
        "log p(x) of the model's own draws from both sides [nats]": [
            "Multiline",
            ["^diagnostics/bracket_lower$", "^diagnostics/bracket_upper$"],
        ],
    },
    "optimisation": {
        "loss [nats]": ["Multiline", ["^train/loss$"]],
        "gradient norm": ["Multiline", ["^train/grad_norm$"]],
        "learning rate": ["Multiline", ["^train/lr$"]],
        "seconds a step": ["Multiline", ["^train/step_seconds$"]],
    },
}


# --- files ------------------------------------------------------------------------------------------------------------


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`; a line that was cut off when a process was killed is left out."""
    rows = []
    with open(path, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                rows.append(row)
    return rows


def _layout(absent: tuple[str, ...]) -> dict[str, dict[str, list[Any]]]:
    """`LAYOUT` without the charts that would be empty where no scalar begins with one of `absent`."""
    kept = {
        section: {title: chart for title, chart in charts.items() if not chart[1][0].startswith(absent, 1)}
        for section, charts in LAYOUT.items()
    }
    return {section: charts for section, charts in kept.items() if charts}


def _mend(path: Path, last_step: int | None) -> None:
    """Drop what a killed process left half-written and, going on from `last_step`, all that came after it."""
    if not path.exists():
        return
    rows = read_metrics(path)
    kept = "".join(_line(row) for row in rows if last_step is None or row["step"] <= last_step)
    if kept.encode() != path.read_bytes():
        with replacing(path) as temporary:
            temporary.write_text(kept, encoding="utf-8")


def _line(row: Mapping[str, Any]) -> str:
    """One line of JSON. JSON has no NaN or infinity: they become null."""
    return json.dumps({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}) + "\n"


# --- records ----------------------------------------------------------------------------------------------------------


class Tracker:
    """Writes the metrics, pictures and settings of one run to `metrics.jsonl` and to TensorBoard.

    Arguments:
        directory: The run directory, made if missing. A tracker opened on one that has records adds to them.
        resume_from: The last step that counts: records of later steps are dropped here and hidden in TensorBoard.
        absent: How the names of scalars begin that this run will not have, so that no chart of them stays empty.

    Raises `RunError` if the directory can't be written to.

    Example:
        >>> with Tracker(Path("outputs/run")) as tracker:
        ...     tracker.scalars(10, {"train/loss": 1.2})
    """

    def __init__(self, directory: Path, *, resume_from: int | None = None, absent: Sequence[str] = ()) -> None:
        path = directory / METRICS
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            fresh = not path.exists()
            _mend(path, resume_from)
            self._metrics: IO[str] = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by `close`)
            self._path = path
            # TensorBoard hides what comes after a purge step, but not at the first that it meets.
            purge = resume_from + 1 if resume_from is not None else 0 if fresh else None
            self._writer = _summary_writer(directory, purge)
        self._step = resume_from or 0
        self._last: dict[str, float] = {}
        if fresh:
            self._writer.add_custom_scalars(_layout(tuple(absent)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One line of `metrics.jsonl`, `{"step": …, "time": unix seconds, **values}`, and TensorBoard's scalars.

        A value that is not finite is null in the file.
        """
        numbers = {tag: float(value) for tag, value in values.items()}
        self._metrics.write(_line({"step": step, "time": round(time.time(), 3), **numbers}))
        self._metrics.flush()
        self._step = step
        for tag, number in numbers.items():
            self._scalar(step, tag, number)

    def result(self, step: int, values: Mapping[str, float]) -> None:
        """What the run is worth in the end: one line of `metrics.jsonl`, and a level over all steps in TensorBoard.

        The scale of a chart leaves out the outermost twentieth of all values: of two runs with one point each, both.
        """
        known = {tag for row in read_metrics(self._path) for tag in row}
        for tag, value in values.items():
            if tag not in known:
                self._scalar(0, tag, float(value))
        self.scalars(step, values)

    def _scalar(self, step: int, tag: str, number: float) -> None:
        from tensorboard.plugins.scalar.metadata import create_summary_metadata  # type: ignore[import-untyped]

        self._last[tag] = number
        self._tensor(step, tag, number, create_summary_metadata("", meaning(tag)))

    def figure(self, step: int, tag: str, figure: Figure) -> None:
        """A picture at a step."""
        stream = io.BytesIO()
        figure.draw_without_rendering()  # square panels take the layout a second pass to settle
        figure.savefig(stream, format="png")
        self.image(step, tag, stream.getvalue())

    def image(self, step: int, tag: str, data: bytes) -> None:
        """A picture file at a step; an animated GIF moves on TensorBoard's page IMAGES."""
        from PIL import Image
        from tensorboard.plugins.image.metadata import create_summary_metadata  # type: ignore[import-untyped]

        with Image.open(io.BytesIO(data)) as opened:
            size = [str(side).encode() for side in opened.size]
        self._tensor(step, tag, [*size, data], create_summary_metadata("", meaning(tag)))

    def _tensor(self, step: int, tag: str, values: Any, metadata: Any) -> None:
        # What SummaryWriter writes of scalars and images has no room for a description.
        import numpy as np
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
        from tensorboard.util.tensor_util import make_tensor_proto  # type: ignore[import-untyped]

        tensor = make_tensor_proto(np.float32(values) if isinstance(values, float) else values)
        self._add(Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata)]), step)

    def text(self, tag: str, markdown: str) -> None:
        """A text that belongs to the run as a whole, in Markdown."""
        self._writer.add_text(tag, markdown, 0)

    def hparams(self, settings: Mapping[str, bool | int | float | str], metrics: Mapping[str, float]) -> None:
        """The run's row on TensorBoard's page HPARAMS: its settings and how it ended.

        May be called with empty `metrics` when the run begins, so that it is listed while it goes on. A final metric
        that `scalars` has not written yet is written as a scalar of the last step: the page reads it from there.
        """
        from tensorboard.plugins.hparams import metadata, plugin_data_pb2  # type: ignore[import-untyped]
        from tensorboard.plugins.hparams.api_pb2 import Status  # type: ignore[import-untyped]

        # Only the session is written, and no "experiment": of that TensorBoard takes the one of an arbitrary run for
        # all, and the settings that only other runs have would not be shown. SummaryWriter.add_hparams writes one, and
        # a subdirectory.
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
        for key, setting in settings.items():
            field = start.hparams[key]
            if isinstance(setting, bool):
                field.bool_value = setting
            elif isinstance(setting, (int, float)):
                field.number_value = setting
            else:
                field.string_value = str(setting)
        self._session(metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=start))
        if not metrics:
            return
        for tag, value in metrics.items():
            if self._last.get(tag) != value:
                self._scalar(self._step, tag, float(value))
        end = plugin_data_pb2.SessionEndInfo(status=Status.STATUS_SUCCESS, end_time_secs=time.time())
        self._session(metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=end))

    def _session(self, tag: str, content: Any) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams.metadata import PLUGIN_DATA_VERSION, PLUGIN_NAME  # type: ignore[import-untyped]

        content.version = PLUGIN_DATA_VERSION
        value = Summary.Value(tag=tag)
        value.metadata.plugin_data.plugin_name = PLUGIN_NAME
        value.metadata.plugin_data.content = content.SerializeToString()
        self._add(Summary(value=[value]), 0)

    def _add(self, summary: Any, step: int) -> None:
        self._writer._get_file_writer().add_summary(summary, step)

    def flush(self) -> None:
        """Hand everything written so far to the operating system."""
        self._metrics.flush()
        self._writer.flush()

    def close(self) -> None:
        """Write what is left and close the files; a second call does nothing."""
        self._metrics.close()
        self._writer.close()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Silent:
    """Stands in for a `Tracker` in a process that leaves the records to another: every method does nothing."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _summary_writer(directory: Path, purge_step: int | None) -> SummaryWriter:
    # TensorBoard takes a second to import, and looks for TensorFlow, which has much to say where it is installed.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.utils.tensorboard.writer import SummaryWriter
    return SummaryWriter(str(directory), purge_step=purge_step, flush_secs=10)


# --- the terminal -----------------------------------------------------------------------------------------------------


class Progress:
    """How far training is: a bar on a terminal, a line now and then elsewhere.

    Arguments:
        total: The number of the last step.
        initial: The step from which a continued run goes on.
        enabled: False prints nothing.
        stream: Where to print.
    """

    #: Seconds between lines where the stream is no terminal, and between redraws of the bar where it is one.
    LINE_SECONDS = 10.0
    BAR_SECONDS = 0.2

    def __init__(self, total: int, initial: int = 0, enabled: bool = True, stream: IO[str] | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._total, self._initial, self._step = total, initial, initial
        self._loss: float | None = None
        self._valid: float | None = None
        self._began = self._printed = time.monotonic()
        self._printed_step = -1
        self._open = enabled
        self._bar: Any = None
        if enabled and self._stream.isatty():
            from tqdm import tqdm

            # A pseudo-terminal may not know its size, and tqdm would draw nothing.
            sized = all(os.get_terminal_size(self._stream.fileno()))
            self._bar = tqdm(
                total=total,
                initial=initial,
                file=self._stream,
                unit=" step",
                ncols=None if sized else 80,
                nrows=None if sized else 24,
                dynamic_ncols=sized,
                mininterval=self.BAR_SECONDS,
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]{postfix}",
            )
        elif enabled:
            self._print_line()

    def update(self, step: int, loss: float | None = None, valid: float | None = None) -> None:
        """`step` steps are done. A loss or a validation log-likelihood is shown until the next one is given."""
        if not self._open:
            return
        self._step = step
        self._loss = self._loss if loss is None else loss
        self._valid = self._valid if valid is None else valid
        if self._bar is not None:
            if loss is not None or valid is not None:
                self._bar.set_postfix_str(self._numbers(), refresh=False)
            self._bar.update(step - self._bar.n)  # draws only when the last time is long enough ago
        elif time.monotonic() - self._printed >= self.LINE_SECONDS:
            self._print_line()

    def message(self, text: str) -> None:
        """Print a line above the bar."""
        if not self._open:
            return
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the last state on the screen; a second call does nothing."""
        if not self._open:
            return
        self._open = False
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
        elif self._printed_step != self._step:
            self._print_line()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _numbers(self) -> str:
        shown = {"loss": self._loss, "valid": self._valid}
        return "  ".join(f"{name} {value:.3f}" for name, value in shown.items() if value is not None)

    def _print_line(self) -> None:
        self._printed = time.monotonic()
        self._printed_step = self._step
        elapsed, done = self._printed - self._began, self._step - self._initial
        if self._step >= self._total:
            clock = f"took {_duration(elapsed)}"
        else:
            clock = f"{_duration(elapsed / done * (self._total - self._step))} left" if done > 0 else ""
        parts = [f"step {self._step}/{self._total}", self._numbers(), clock]
        print("  ".join(filter(None, parts)), file=self._stream, flush=True)


def _duration(seconds: float) -> str:
    """`2.1 s`, `3 min 05 s`, `1 h 02 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
