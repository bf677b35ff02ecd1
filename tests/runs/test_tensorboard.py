"""TensorBoard reads what a run wrote, says what it means, and has the names that this program takes from its inside."""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import re
from pathlib import Path

import pytest

import cifrun.runs.tensorboard
from cifrun.figures.style import rendered
from cifrun.runs.metrics import BY_NAME, CHARTS
from cifrun.runs.records import METRICS, Tracker, read_metrics
from cifrun.runs.tensorboard import Events, layout
from cifrun.training.loop import train
from tests.helpers import small_config, unrendered

from .events import events, hparams, points, tags


def test_figures_and_texts(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    with Tracker(tmp_path) as tracker:
        tracker.image(3, "figures/density", rendered(Figure(figsize=(2, 1), dpi=50)))
        tracker.text("config", "```yaml\nseed: 1\n```")
    (image,) = events(tmp_path).Tensors("figures/density")
    width, height, data = image.tensor_proto.string_val
    assert (image.step, width, height) == (3, b"100", b"50")
    assert data.startswith(b"\x89PNG")
    (text,) = events(tmp_path).Tensors("config/text_summary")
    assert text.tensor_proto.string_val[0] == b"```yaml\nseed: 1\n```"


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


def test_a_result_is_a_point_of_what_is_compared_and_no_curve(tmp_path: Path) -> None:
    """The run goes on and is tested again: a second point. What no table shows is in `metrics.jsonl` alone."""
    for resume_from, step, value in ((None, 100, -1.5), (100, 200, -1.25)):
        with Tracker(tmp_path, resume_from=resume_from) as tracker:
            tracker.result(step, {"test/elbo": value, "best/log_likelihood": value, "test/kl_to_truth_se": 0.1})
    assert points(tmp_path, "test/elbo") == points(tmp_path, "best/log_likelihood") == [(100, -1.5), (200, -1.25)]
    with pytest.raises(KeyError):
        points(tmp_path, "test/kl_to_truth_se")
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


@pytest.mark.parametrize(
    ("dataset", "every", "cif"),
    [("two_uniforms", 0, True), ("two_uniforms", 2, False), ("iris", 2, True)],
)
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
    with unrendered():
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


# --- names inside TensorBoard -----------------------------------------------------------------------------------------


def names_inside() -> list[tuple[str, str]]:
    """(module, name) of all that `cifrun.runs.tensorboard` imports of TensorBoard and torch."""
    tree = ast.parse(inspect.getsource(cifrun.runs.tensorboard))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level and node.module]
    ours = [node for node in imports if str(node.module).partition(".")[0] in ("tensorboard", "torch")]
    return sorted({(str(node.module), alias.name) for node in ours for alias in node.names})


def told(what: str) -> str:
    import tensorboard.version
    import torch

    return (
        f"TensorBoard {tensorboard.version.VERSION} or torch {torch.__version__} has no {what} any more: "
        f"find what stands for it now, and change cifrun/runs/tensorboard.py"
    )


@pytest.mark.parametrize(("module", "name"), names_inside())
def test_tensorboard_has_what_we_import(module: str, name: str) -> None:
    try:
        found = importlib.import_module(module)
    except ImportError:
        pytest.fail(told(f"module {module}"))
    if not hasattr(found, name):
        try:
            importlib.import_module(f"{module}.{name}")
        except ImportError:
            pytest.fail(told(f"{module}.{name}"))


def test_messages_have_the_fields_that_we_fill() -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

    fields = {
        Summary: ("value",),
        Summary.Value: ("tag", "tensor", "metadata"),
        SummaryMetadata: ("plugin_data", "summary_description"),
        SummaryMetadata.PluginData: ("plugin_name", "content"),
        HParamsPluginData: ("version", "session_start_info", "session_end_info"),
        SessionStartInfo: ("hparams", "start_time_secs"),
        SessionEndInfo: ("status", "end_time_secs"),
    }
    for message, names in fields.items():
        for name in names:
            assert name in message.DESCRIPTOR.fields_by_name, told(f"field {name} in {message.DESCRIPTOR.full_name}")


def test_the_writer_of_torch_has_the_methods_that_we_call(tmp_path: Path) -> None:
    writer = Events(tmp_path)._writer
    for name in ("_get_file_writer", "add_custom_scalars", "add_text", "flush", "close"):
        assert hasattr(writer, name), told(f"SummaryWriter.{name}")
    assert hasattr(writer._get_file_writer(), "add_summary"), told("FileWriter.add_summary")
    writer.close()


# --- charts -----------------------------------------------------------------------------------------------------------


def test_charts_are_of_known_metrics() -> None:
    assert all(tag.rpartition("/")[2] in BY_NAME for chart in CHARTS for tag in chart.tags)


def test_a_chart_of_what_is_absent_is_left_out() -> None:
    assert "trust" in layout() and "trust" not in layout(["diagnostics/pareto_k", "diagnostics/bracket"])
    assert list(layout(["diagnostics/"])) == ["log-likelihood [nats]", "optimisation"]
    (chart,) = layout(["diagnostics/mass_off_support"])["topology"].values()
    assert chart == ["Multiline", ["^diagnostics/coverage$"]]
