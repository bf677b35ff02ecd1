"""Reads the TensorBoard events of a run, as TensorBoard does."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def events(directory: Path) -> Any:
    """What TensorBoard reads, without leaving out any."""
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    return EventAccumulator(str(directory), size_guidance={"tensors": 0}).Reload()


def points(directory: Path, tag: str) -> list[tuple[int, float]]:
    """(step, value) of a scalar."""
    from tensorboard.util.tensor_util import make_ndarray

    return [(event.step, make_ndarray(event.tensor_proto).item()) for event in events(directory).Tensors(tag)]


def steps(directory: Path, tag: str) -> list[int]:
    return [step for step, _ in points(directory, tag)]


def tags(found: Any, plugin: str) -> list[str]:
    return [t for t in found.Tags()["tensors"] if found.SummaryMetadata(t).plugin_data.plugin_name == plugin]


def hparams(directory: Path, kind: str) -> Any:
    from tensorboard.plugins.hparams import metadata

    content = events(directory).SummaryMetadata(f"_hparams_/{kind}").plugin_data.content
    return getattr(metadata, f"parse_{kind}_plugin_data")(content)
