"""The TensorBoard events of a run: scalars and pictures with their meanings, texts, charts, and the settings.

All that this package knows of TensorBoard's inside is in this file. Its names are private or of its messages, so a new
version may move one: a test looks for each of them.
"""

from __future__ import annotations

import io
import os
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..io.files import writing
from .metrics import CHARTS, meaning


def layout(absent: Sequence[str] = ()) -> dict[str, dict[str, list[Any]]]:
    """The charts of TensorBoard's page "Custom Scalars", as `add_custom_scalars` takes them.

    Arguments:
        absent: Prefixes of tags that a run never logs. A chart whose first tag has one of them is left out.
    """
    sections: dict[str, dict[str, list[Any]]] = {}
    for chart in CHARTS:
        if not chart.tags[0].startswith(tuple(absent)):
            tags = [f"^{tag}$" for tag in chart.tags]  # TensorBoard takes them for regular expressions
            sections.setdefault(chart.section, {})[chart.title] = ["Multiline", tags]
    return sections


class Events:
    """Writes the TensorBoard events of a run to its directory.

    Arguments:
        directory: The run directory.
        purge_step: TensorBoard hides what was written of this step and later ones, before; None if nothing is hidden.

    Raises:
        RunError: The events can't be written; of any method, as a thread of TensorBoard's own writes them.
    """

    def __init__(self, directory: Path, purge_step: int | None = None) -> None:
        # TensorBoard takes a second to import, and looks for TensorFlow, which has much to say where it is installed.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch.utils.tensorboard.writer import SummaryWriter
        self._directory = directory
        _wait_for_a_later_name(directory)
        _silence_its_thread()
        self._writer = SummaryWriter(str(directory), purge_step=purge_step, flush_secs=10)

    def charts(self, absent: Sequence[str] = ()) -> None:
        """The page "Custom Scalars", without charts of `absent`."""
        with writing(self._directory):
            self._writer.add_custom_scalars(layout(absent))

    def scalar(self, step: int, tag: str, number: float) -> None:
        """A number at a step, with its meaning."""
        import numpy as np
        from tensorboard.plugins.scalar.metadata import create_summary_metadata  # type: ignore[import-untyped]

        self._tensor(step, tag, np.float32(number), create_summary_metadata("", meaning(tag)))

    def image(self, step: int, tag: str, data: bytes) -> None:
        """A picture file at a step, with its meaning; an animated GIF moves on TensorBoard's page IMAGES."""
        from PIL import Image
        from tensorboard.plugins.image.metadata import create_summary_metadata  # type: ignore[import-untyped]

        with Image.open(io.BytesIO(data)) as opened:
            size = [str(side).encode() for side in opened.size]
        self._tensor(step, tag, [*size, data], create_summary_metadata("", meaning(tag)))

    def text(self, tag: str, markdown: str) -> None:
        """A text that belongs to the run as a whole, in Markdown."""
        with writing(self._directory):
            self._writer.add_text(tag, markdown, 0)

    def begin(self, settings: Mapping[str, bool | int | float | str]) -> None:
        """The run's row on the page HPARAMS, while it goes on."""
        from tensorboard.plugins.hparams import metadata, plugin_data_pb2  # type: ignore[import-untyped]

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

    def end(self) -> None:
        """That the run is complete, for the page HPARAMS."""
        from tensorboard.plugins.hparams import metadata, plugin_data_pb2
        from tensorboard.plugins.hparams.api_pb2 import Status  # type: ignore[import-untyped]

        end = plugin_data_pb2.SessionEndInfo(status=Status.STATUS_SUCCESS, end_time_secs=time.time())
        self._session(metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=end))

    def close(self) -> None:
        """Write what is left and close the file; a second call does nothing."""
        with writing(self._directory):
            self._writer.close()

    def _tensor(self, step: int, tag: str, values: Any, metadata: Any) -> None:
        # What SummaryWriter writes of scalars and images has no room for a description.
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
        from tensorboard.util.tensor_util import make_tensor_proto  # type: ignore[import-untyped]

        self._add(Summary(value=[Summary.Value(tag=tag, tensor=make_tensor_proto(values), metadata=metadata)]), step)

    def _session(self, tag: str, content: Any) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams.metadata import PLUGIN_DATA_VERSION, PLUGIN_NAME  # type: ignore[import-untyped]

        content.version = PLUGIN_DATA_VERSION
        value = Summary.Value(tag=tag)
        value.metadata.plugin_data.plugin_name = PLUGIN_NAME
        value.metadata.plugin_data.content = content.SerializeToString()
        self._add(Summary(value=[value]), 0)

    def _add(self, summary: Any, step: int) -> None:
        with writing(self._directory):
            self._writer._get_file_writer().add_summary(summary, step)


def _silence_its_thread() -> None:
    """Let TensorBoard's thread, in which a write fails, say nothing of it: the next call here raises the same error."""
    before = threading.excepthook

    def of_a_thread(failure: threading.ExceptHookArgs) -> None:
        if not (type(failure.thread).__module__.startswith("tensorboard.") and isinstance(failure.exc_value, OSError)):
            before(failure)

    if getattr(before, "__module__", None) != __name__:  # once a process
        threading.excepthook = of_a_thread


def _wait_for_a_later_name(directory: Path) -> None:
    """Wait until the next file of events comes after those of `directory` in the order of names: at most a second.

    TensorBoard reads files in that order. A name begins with the second in which it is made, and its end, a counter
    without leading zeros, does not keep the order within a second.
    """
    while list(directory.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
        time.sleep(0.02)
