"""The run directory: the files a run leaves, written so that a kill at any moment leaves each one whole.

    config.yaml            the resolved config; enough to rebuild the model
    summary.json           status, what was run, and the test results
    metrics.jsonl          one line a logged step
    checkpoints/latest.safetensors, checkpoints/best.safetensors
    figures/*.png

A checkpoint is one safetensors file: tensors, and the rest of the
training state as JSON in its header. Loading reads data and never runs code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..build import build_model, first_step
from ..cif.model import Model
from ..config.schema import Config, to_dict
from ..errors import ConfigError, RunError
from ..io.files import replacing, writing

__all__ = ["Checkpoint", "RunDirectory", "load"]


class Checkpoint:
    """Named tensors and JSON-able state, as one file.

    Attributes:
        tensors: By dotted name: "model.…", "optimizer.…", "rng.…".
        state: What is not a tensor: step, best validation, …
    """

    def __init__(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        self.tensors = dict(tensors)
        self.state = dict(state)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name starts with `prefix.`, without it."""
        return {k.removeprefix(f"{prefix}."): v for k, v in self.tensors.items() if k.startswith(f"{prefix}.")}

    def load_model(self, model: nn.Module, origin: str) -> None:
        """Copy the weights into `model`. Raises `RunError` if they are another model's."""
        weights, expected = self.part("model"), model.state_dict()
        if weights.keys() != expected.keys() or any(weights[k].shape != expected[k].shape for k in weights):
            raise RunError(f"{origin} holds the weights of another model than the run's config.yaml describes")
        model.load_state_dict(weights)


class RunDirectory:
    """Reads and writes the files of one run.

    Arguments:
        path: The directory; `create` makes it.
        writes: False for a process that leaves all writing to another; its `create`, `write_…` and `save_…` do nothing.

    Errors:
        RunError: a file is missing, damaged, or can't be written; the message names it.
    """

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path = Path(path)
        self.writes = writes
        self.figures = self.path / "figures"

    def create(self, config: Config) -> None:
        """Make the directory and write `config.yaml`."""
        if not self.writes:
            return
        with writing(self.path):
            (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
            self.figures.mkdir(exist_ok=True)
        self.write_config(config)

    def write_config(self, config: Config) -> None:
        """`config.yaml`, with what belongs to one command only (run, output, data, …) left empty."""
        if not self.writes:
            return
        data = {**to_dict(config), "run": None, "resume": None, "output": None, "data": None, "per_point": None}
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        with replacing(self.path / "config.yaml") as file:
            file.write_text(text, encoding="utf-8")

    def config(self) -> Config:
        """The run's config."""
        if not self.path.is_dir():
            raise RunError(f"there is no run directory {self.path}")
        file = self.path / "config.yaml"
        if not file.is_file():
            raise RunError(f"{self.path} is not a run directory: it has no config.yaml")
        try:
            return Config.load(file)
        except ConfigError as error:
            raise RunError(f"{file} is not a valid configuration: {error}") from error
        except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
            raise RunError(f"{file} can't be read as YAML") from error

    def summary(self) -> dict[str, Any]:
        """`summary.json`, or an empty dict when the run has not written one yet."""
        file = self.path / "summary.json"
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise RunError(f"{file} can't be read as JSON") from error

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """`summary.json`; numbers that are not finite become null."""
        if not self.writes:
            return
        text = json.dumps(_finite(summary), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        with replacing(self.path / "summary.json") as file:
            file.write_text(text, encoding="utf-8")

    def check_data(self, fingerprint: str | None) -> None:
        """Raise `RunError` if the run was trained on a file that has another fingerprint than this, of its data now."""
        known = self.summary().get("data_fingerprint")
        if known is not None and known != fingerprint:
            raise RunError(
                f"the file that {self.path} was trained on has changed since, and with it which rows are for training "
                f"and which for the test: bring back what it was, or train anew"
            )

    def checkpoint_path(self, tag: str) -> Path:
        return self.path / "checkpoints" / f"{tag}.safetensors"

    def save_checkpoint(self, tag: str, checkpoint: Checkpoint) -> None:
        """Write `checkpoints/TAG.safetensors`; what was there stays until the new one is whole and on disk."""
        if not self.writes:
            return
        # safetensors refuses tensors that share memory; a copy on the CPU shares none.
        tensors = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in checkpoint.tensors.items()}
        metadata = {"format": "cifrun-1", "state": json.dumps(checkpoint.state)}
        with replacing(self.checkpoint_path(tag)) as file:
            save_file(tensors, file, metadata)

    def load_checkpoint(self, tag: str) -> Checkpoint:
        """Read `checkpoints/TAG.safetensors`."""
        file = self.checkpoint_path(tag)
        if not file.is_file():
            raise RunError(f"{self.path} has no checkpoint '{tag}': {file} is missing")
        try:
            with safe_open(file, framework="pt") as reader:
                metadata = reader.metadata() or {}
                state = json.loads(metadata["state"])
                return Checkpoint({key: reader.get_tensor(key) for key in reader.keys()}, state)  # noqa: SIM118
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise RunError(f"{file} is damaged or not a checkpoint of this program") from error

    def load_model(self, tag: str | None = None) -> Model:
        """The model in eval mode on the CPU, with the weights of `tag`: by default the best, else the latest."""
        if tag is None:
            tag = "best" if self.checkpoint_path("best").is_file() else "latest"
        config = self.config()
        checkpoint = self.load_checkpoint(tag)
        shape = checkpoint.state.get("shape")
        if not isinstance(shape, list):
            raise RunError(f"{self.checkpoint_path(tag)} is damaged or not a checkpoint of this program")
        model = build_model(config, shape, first_step(shape, checkpoint.state.get("standardized", False)))
        model.columns = tuple(checkpoint.state.get("columns", ()))
        model.levels = checkpoint.state.get("levels")
        checkpoint.load_model(model, str(self.checkpoint_path(tag)))
        return model.eval().requires_grad_(False)


def load(directory: str | Path) -> Model:
    """The trained model of a run directory, in eval mode, with its best weights.

        model = cifrun.load("outputs/2026-01-31/12-00-00")
        model.log_prob(x, importance_samples=100)   # (batch,), nats
        model.sample(1000)                          # (1000, D)

    Errors:
        RunError: the directory is missing, is no run directory, or its checkpoint is damaged or of another model.
    """
    return RunDirectory(Path(directory)).load_model()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
