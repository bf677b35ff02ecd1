"""What may be typed beside a run that exists: its config with that written over it, and nothing else.

A key that a verb would take and do nothing with is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from ..config.roles import changeable, command_defaults, holds_path, reading
from ..errors import ConfigError
from ..registry import DATASETS

__all__ = ["overlay"]

_ONE_DEVICE = "one device draws all samples"
_TRAINING = "it is of training alone"
_ESTIMATE = "cifrun eval run=DIR makes the estimate that it is of"
#: Keys that a verb could take, and that would change nothing; and why, or what to write instead.
IDLE = {
    "eval": {
        "seed": "eval.seed=N is what its random numbers come from",
        "eval.valid_importance_samples": "the validation set is left alone",
        "diagnostics.every": _TRAINING,
        "device.compile": _TRAINING,
        "device.cuda_graph": _TRAINING,
    },
    "sample": {
        "eval.importance_samples": _ESTIMATE,
        "eval.valid_importance_samples": _TRAINING,
        "eval.seed": "seed=N is what samples come from",
        "eval.references": _ESTIMATE,
        "device.count": _ONE_DEVICE,
        "device.nodes": _ONE_DEVICE,
        "device.compile": _TRAINING,
        "device.cuda_graph": _TRAINING,
    },
}


def overlay(saved: Mapping[str, Any], composed: Mapping[str, Any], typed: Sequence[str], verb: str) -> dict[str, Any]:
    """The config of a run with what was typed written over it, and nothing else of what was composed.

    Where a file is evaluated with a run of a table that is no file, and words say how to read it, the dataset is a file
    of that form, as nothing of the run's own is read.

    Arguments:
        saved: What the run was trained with, as plain data.
        composed: What conf/ and all words make together, as plain data.
        typed: The overrides of the command line.
        verb: What is done with the run: train (which is resume), eval or sample.

    Raises:
        ConfigError: something was typed that is settled when a run is trained, or that the verb would do nothing with.
    """
    data, allowed, asked = deepcopy(dict(saved)), changeable(verb), set[str]()
    dataset = str(dict(saved.get("dataset") or {}).get("name"))
    for override in OverridesParser.create().parse_overrides(list(typed)):
        key, text = override.key_or_group, override.input_line
        first, *rest = key.split(".")
        reads = key in reading(verb)
        if not (first in allowed or reads) or override.is_delete() or override.package is not None:
            what = first if first in composed else "settings"
            takes = ", ".join(name for name in allowed if name not in IDLE.get(verb, {}))
            raise ConfigError(
                f"a run keeps its {what}: {text} can't change it; cifrun {verb} {allowed[0]}=DIR takes {takes}"
            )
        if key in IDLE.get(verb, {}):
            raise ConfigError(f"'{text}' would change nothing in cifrun {verb}: {IDLE[verb][key]}")
        if reads and not _check_reads(key, dataset, composed.get("data")):
            data["dataset"], dataset = {"name": "file"}, "file"
        source, target, name = composed, data, first
        for inner in rest:
            if not isinstance(target.get(name), dict):  # an older run may lack the group
                target[name] = {}
            source, target, name = source[name], target[name], inner
        target[name] = source[name]
        asked.add(first)
    if verb == "eval":
        if not _says(typed, "eval.references") and "references" in (data.get("eval") or ()):  # they are there already
            data["eval"] |= {"references": False}
        kept = data.get("diagnostics", {})
        if "diagnostics" not in asked:  # those of training are kept
            data["diagnostics"] = {**kept, "enabled": False} if isinstance(kept, dict) else kept
        elif composed.get("data") is not None:
            raise ConfigError("diagnostics are of the test set: leave them out with data=FILE, or leave out data=FILE")
        elif isinstance(kept, dict) and kept.get("enabled") is False and not _says(typed, "diagnostics.enabled"):
            raise ConfigError("the run has its diagnostics switched off: add diagnostics.enabled=true to measure them")
    return {**data, **{key: composed[key] for key in command_defaults() if key in composed}}


def _says(typed: Sequence[str], key: str) -> bool:
    return any(word.partition("=")[0].lstrip("+") == key for word in typed)


def _check_reads(key: str, dataset: str, other: Any) -> bool:
    """Whether a setting that says where or how a file is read is one of the run's dataset.

    Arguments:
        key: The setting.
        dataset: The name of the run's dataset.
        other: The file that is evaluated instead of the test set; None if there is none.

    Raises:
        ConfigError: It is not, and there is nothing else that it could say.
    """
    held = dataset not in DATASETS or key.partition(".")[2] in DATASETS[dataset].__pydantic_fields__
    if holds_path(key):
        if not held:
            raise ConfigError(f"{key} is no setting of dataset '{dataset}', which the run was trained on")
        if other is not None:
            raise ConfigError(f"{key} says where the run's own data are: leave it out, as data={other} is evaluated")
    elif other is None:
        raise ConfigError(f"{key} says how another file is read: it goes with data=FILE")
    elif not held and _holds_images(dataset):
        raise ConfigError(f"{key} says how a table is read: data=FILE is an array, as the run is of images")
    return held


def _holds_images(dataset: str) -> bool:
    from ..data.images.base import Images

    return issubclass(DATASETS[dataset], Images)
