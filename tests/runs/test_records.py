"""A run's records survive kills and continuations, TensorBoard reads them, and progress suits where it is printed."""

from __future__ import annotations

import io
import json
import math
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from cifrun.errors import RunError
from cifrun.runs.records import METRICS, Progress, Tracker, read_metrics
from cifrun.training.loop import train

from .helpers import small_config


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


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_scalars_reach_both_records(tmp_path: Path) -> None:
    before = time.time()
    with Tracker(tmp_path / "new" / "run") as tracker:
        tracker.scalars(10, {"train/loss": 1.25, "train/lr": 1e-3})
        # Readable while the run goes on.
        (row,) = read_metrics(tmp_path / "new" / "run" / METRICS)
    assert row.keys() == {"step", "time", "train/loss", "train/lr"}
    assert (row["step"], row["train/loss"]) == (10, 1.25)
    assert before - 1 < row["time"] < time.time() + 1
    assert points(tmp_path / "new" / "run", "train/loss") == [(10, 1.25)]


def test_every_file_lies_at_the_root(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.scalars(1, {"train/loss": 1.0})
        tracker.hparams({"cif": True}, {"test/log_likelihood": -1.5})
    assert all(path.is_file() for path in tmp_path.iterdir())
    assert {path.name.partition(".out")[0] for path in tmp_path.iterdir()} == {METRICS, "events"}


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.scalars(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.5})

    def refuse(name: str) -> None:
        pytest.fail(f"{name} is not JSON")

    row = json.loads((tmp_path / METRICS).read_text(), parse_constant=refuse)
    assert [row[k] for k in "abcd"] == [None, None, None, 0.5]


def test_tracker_adds_to_what_is_there(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        with Tracker(tmp_path) as tracker:
            tracker.scalars(step, {"a": 0.0})
    assert [row["step"] for row in read_metrics(tmp_path / METRICS)] == [1, 2, 3]
    assert steps(tmp_path, "a") == [1, 2, 3]


@pytest.mark.parametrize("resume_from", [None, 5])
def test_half_a_line_is_dropped(tmp_path: Path, resume_from: int | None) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.scalars(5, {"a": 1.0})
    with open(tmp_path / METRICS, "ab") as stream:
        stream.write(b'{"step": 6, "a": 0.\xff')
    with Tracker(tmp_path, resume_from=resume_from) as tracker:
        tracker.scalars(7, {"a": 2.0})
    lines = (tmp_path / METRICS).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [5, 7]


def test_continuing_forgets_later_steps(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.text("config", "seed: 1")
    tracker.hparams({"seed": 1}, {})
    for step in range(10, 60, 10):
        tracker.scalars(step, {"a": 1.0})
    tracker.flush()  # and then it is killed: no close
    with Tracker(tmp_path, resume_from=20) as continued:
        continued.scalars(30, {"a": 2.0})
    tracker.close()
    assert [(row["step"], row["a"]) for row in read_metrics(tmp_path / METRICS)] == [(10, 1.0), (20, 1.0), (30, 2.0)]
    assert points(tmp_path, "a") == [(10, 1.0), (20, 1.0), (30, 2.0)]
    assert "config/text_summary" in events(tmp_path).Tags()["tensors"]
    assert hparams(tmp_path, "session_start_info").hparams["seed"].number_value == 1


def test_half_an_event_does_no_harm(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.scalars(1, {"a": 1.0})
        tracker.scalars(2, {"a": 1.0})
    (file,) = tmp_path.glob("events.*")
    file.write_bytes(file.read_bytes()[:-7])
    with Tracker(tmp_path, resume_from=1) as tracker:
        tracker.scalars(2, {"a": 2.0})
    assert steps(tmp_path, "a") == [1, 2]


def test_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file can't be written"):
        Tracker(tmp_path / "file")


def test_close_twice(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.close()
    tracker.close()


# --- TensorBoard ------------------------------------------------------------------------------------------------------


def test_figures_and_texts(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    with Tracker(tmp_path) as tracker:
        tracker.figure(3, "figures/density", Figure(figsize=(2, 1), dpi=50))
        tracker.text("config", "```yaml\nseed: 1\n```")
    (image,) = events(tmp_path).Tensors("figures/density")
    width, height, data = image.tensor_proto.string_val
    assert (image.step, width, height) == (3, b"100", b"50")
    assert data.startswith(b"\x89PNG")
    (text,) = events(tmp_path).Tensors("config/text_summary")
    assert text.tensor_proto.string_val[0] == b"```yaml\nseed: 1\n```"


def test_hparams_keep_their_types(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.scalars(100, {"test/log_likelihood": -1.5})
        tracker.hparams(
            {"cif": True, "seed": 3, "optimizer.lr": 1e-3, "index.depth": "all"},
            {"test/log_likelihood": -1.5, "test/elbo": -1.75},
        )
    settings = hparams(tmp_path, "session_start_info").hparams
    assert settings["cif"].bool_value is True
    assert settings["seed"].number_value == 3
    assert settings["optimizer.lr"].number_value == 1e-3
    assert settings["index.depth"].string_value == "all"
    assert hparams(tmp_path, "session_end_info").status == 1  # success
    # The metric that was there is not doubled; the other one is written at the last step.
    assert points(tmp_path, "test/log_likelihood") == [(100, -1.5)]
    assert points(tmp_path, "test/elbo") == [(100, -1.75)]


def test_a_result_is_a_level(tmp_path: Path) -> None:
    """Written first, it goes from step 0; the run goes on and is tested again, it leads from one to the other."""
    for resume_from, step, value in ((None, 100, -1.5), (100, 200, -1.25)):
        with Tracker(tmp_path, resume_from=resume_from) as tracker:
            tracker.result(step, {"test/elbo": value})
    assert points(tmp_path, "test/elbo") == [(0, -1.5), (100, -1.5), (200, -1.25)]
    assert [(row["step"], row["test/elbo"]) for row in read_metrics(tmp_path / METRICS)] == [(100, -1.5), (200, -1.25)]


def test_hparams_page_lists_each_run_once_with_all_settings(tmp_path: Path) -> None:
    """What the page HPARAMS asks for: runs of different flows, each in one row, the settings of either in columns."""
    from tensorboard import context
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    for name, setting in (("a", "flow.num_blocks"), ("b", "flow.num_layers")):
        with Tracker(tmp_path / name) as tracker:
            tracker.hparams({setting: 5}, {})
            tracker.scalars(10, {"train/loss": 1.0})
            tracker.hparams({setting: 5}, {"test/log_likelihood": -1.5})
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(tmp_path))
    backend = backend_context.Context(TBContext(data_provider=provider))
    request = context.RequestContext()
    sessions = backend.hparams_metadata(request, "")
    experiment = backend.experiment_from_metadata(request, "", True, sessions, [])
    assert {info.name for info in experiment.hparam_infos} == {"flow.num_blocks", "flow.num_layers"}
    asked = api_pb2.ListSessionGroupsRequest(
        slice_size=10, allowed_statuses=[api_pb2.STATUS_SUCCESS], include_metrics=True
    )
    groups = list_session_groups.Handler(request, backend, "", asked).run().session_groups
    assert sorted(group.name for group in groups) == ["a", "b"]
    for group in groups:
        metrics = {value.name.tag: value.value for value in group.metric_values}
        assert metrics["test/log_likelihood"] == -1.5


# --- progress ---------------------------------------------------------------------------------------------------------


def test_progress_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("cifrun.runs.records.time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    progress = Progress(1000, stream=stream)
    for step in range(1, 1001):
        clock[0] += 0.025
        progress.update(step, loss=1.234)
        if step == 200:
            progress.update(step, valid=-1.69)
            progress.message("a message")
    progress.close()
    progress.close()
    assert stream.getvalue().splitlines() == [
        "step 0/1000",
        "a message",
        "step 400/1000  loss 1.234  valid -1.690  15.0 s left",
        "step 800/1000  loss 1.234  valid -1.690  5.0 s left",
        "step 1000/1000  loss 1.234  valid -1.690  took 25.0 s",
    ]


def test_progress_of_a_continued_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("cifrun.runs.records.time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    with Progress(100_000, initial=90_000, stream=stream) as progress:
        clock[0] = 100.0
        progress.update(90_100)
    assert stream.getvalue().splitlines() == ["step 90000/100000", "step 90100/100000  2 h 45 min left"]


@pytest.mark.parametrize("sized", [False, True])
def test_progress_on_a_terminal(sized: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    leader, follower = pty.openpty()
    if sized:
        termios.tcsetwinsize(follower, (40, 100)) if hasattr(termios, "tcsetwinsize") else pytest.skip("Python 3.10")
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        with Progress(50) as progress:
            for step in range(1, 51):
                progress.update(step, loss=1.5)
            progress.update(50, valid=-1.25)
            progress.message("a message")
        shown = os.read(leader, 65536).decode()
    os.close(leader)
    assert "50/50" in shown
    assert "loss 1.500  valid -1.250" in shown
    assert "a message\r\n" in shown
    assert shown.count("\r") < 20  # redrawn now and then, not at every step


def test_progress_disabled_is_silent() -> None:
    stream = io.StringIO()
    with Progress(10, enabled=False, stream=stream) as progress:
        progress.update(5, loss=1.0)
        progress.message("a message")
    assert stream.getvalue() == ""


def test_an_animation_is_kept_as_it_is(tmp_path: Path) -> None:
    from PIL import Image

    frames = [Image.new("RGB", (20, 10), colour) for colour in ("white", "black")]
    buffer = io.BytesIO()
    frames[0].save(buffer, format="gif", save_all=True, append_images=frames[1:])
    with Tracker(tmp_path) as tracker:
        tracker.image(7, "figures/film", buffer.getvalue())
    (event,) = events(tmp_path).Tensors("figures/film")
    assert event.step == 7
    assert list(event.tensor_proto.string_val) == [b"20", b"10", buffer.getvalue()]


@pytest.mark.parametrize("cif", [False, True], ids=["plain", "cif"])
@pytest.mark.parametrize(("dataset", "every"), [("two_uniforms", 0), ("two_uniforms", 2), ("iris", 2)])
def test_no_chart_stays_empty(dataset: str, every: int, cif: bool, tmp_path: Path) -> None:
    from tensorboard.plugins.custom_scalar import layout_pb2
    from tensorboard.util import tensor_util

    pytest.importorskip("sklearn")
    few = {"samples": 50, "density_points": 20, "jacobian_points": 5, "weight_points": 3, "weights": 30}
    config = small_config(
        "realnvp",
        cif,
        dataset,
        trainer={"max_steps": 4, "batch_size": 50, "valid_every": 2, "log_every": 1, "progress": False},
        diagnostics={"every": every, **few},
    )
    train(config, tmp_path)
    found = events(tmp_path)
    (event,) = found.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(tensor_util.make_ndarray(event.tensor_proto).item())
    charts = [chart for category in layout.category for chart in category.chart]
    assert len(charts) >= (6 if every == 0 else 8)
    for chart in charts:
        assert any(re.match(tag, name) for tag in chart.multiline.tag for name in tags(found, "scalars")), chart.title
    # And everything says what it is.
    for tag in (*tags(found, "scalars"), *tags(found, "images")):
        assert found.SummaryMetadata(tag).summary_description.endswith("."), tag
