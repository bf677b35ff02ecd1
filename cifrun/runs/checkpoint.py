"""A checkpoint: one safetensors file of named tensors, with the rest of the training state as JSON in its header.

Reading one gives data and never runs code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import RunError
from ..io.files import replacing
from .validation import check, kinds_of, saved

#: What a file says it is: with a checksum, and as it was before there was one. One changed bit does not make one of
#: them the other.
FORMAT, WITHOUT_CHECKSUM = "cifrun-2", "cifrun-1"


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
        """Copy the weights into `model`.

        Raises:
            RunError: They are another model's, of another kind of numbers, or not finite.
        """
        weights, expected = self.part("model"), model.state_dict()
        if weights.keys() != expected.keys() or not all(_fits(weights[k], expected[k]) for k in weights):
            raise RunError(f"{origin} holds the weights of another model than the run's config.yaml describes")
        learned = {name for name, _ in model.named_parameters()}
        broken = [
            name for name, value in weights.items() if not _usable(value, None if name in learned else expected[name])
        ]
        if broken:
            raise RunError(
                f"{origin} holds weights that are not finite, of '{broken[0]}' first: nothing can be computed with them"
            )
        model.load_state_dict(weights)

    def save(self, path: Path) -> None:
        """Write the file; what was there stays until the new one is whole and on disk.

        Raises:
            RunError: It can't be written.
        """
        # safetensors refuses tensors that share memory; a copy on the CPU shares none.
        tensors = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in self.tensors.items()}
        state = json.dumps(self.state)
        metadata = {"format": FORMAT, "state": state, "sha256": _checksum(tensors, state)}
        with replacing(path) as file:
            try:
                save_file(tensors, file, metadata)
            except SafetensorError as error:  # what the system said is in its text alone
                number = int(found[1]) if (found := re.search(r"os error (\d+)", str(error))) else 0
                raise OSError(number, os.strerror(number) if number else str(error)) from error

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """The checkpoint in a file.

        Raises:
            RunError: It is damaged, or of another program.
        """
        try:
            with safe_open(path, framework="pt") as reader:
                metadata = reader.metadata() or {}
                tensors = {key: reader.get_tensor(key) for key in reader.keys()}  # noqa: SIM118
            state = json.loads(metadata["state"])
            if not isinstance(state, dict):
                raise ValueError("the state is no mapping")
            if metadata.get("format") != WITHOUT_CHECKSUM and not (
                metadata["format"] == FORMAT and metadata["sha256"] == _checksum(tensors, metadata["state"])
            ):
                raise ValueError("other content than was saved")
            return cls(tensors, state)
        except PermissionError as error:
            raise RunError(f"{path} can't be read: {error.strerror}") from error
        except (SafetensorError, KeyError, ValueError, OSError, RecursionError) as error:
            raise RunError(f"{path} is damaged or not a checkpoint of this program") from error


def _fits(value: Tensor, built: Tensor) -> bool:
    """Whether a tensor has the shape and the kind of numbers of the one as it was built, in whatever precision.

    Whole numbers in a row are places, as of a permutation, and lie where those do that were built.
    """
    if value.shape != built.shape or value.is_floating_point() != built.is_floating_point():
        return False
    if value.is_floating_point():
        return True
    if value.dtype != built.dtype:
        return False
    inside = value.dim() == 0 or value.numel() == 0 or value.dtype == torch.bool
    return inside or bool(((value >= built.min().to(value.device)) & (value <= built.max().to(value.device))).all())


def _usable(value: Tensor, built: Tensor | None) -> bool:
    """Whether all numbers are finite; or, of a buffer, infinite where the model as it was built has the same there."""
    good = value.isfinite()
    if built is not None and not bool(good.all()):
        good |= value == built.to(value.device)
    return bool(good.all())


def _checksum(tensors: Mapping[str, Tensor], state: str) -> str:
    """SHA-256 of all that a checkpoint holds, in hexadecimal."""
    digest = hashlib.sha256(state.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass
class DataFacts:
    """What a checkpoint says of the data, so that the model can be rebuilt without them.

    Attributes:
        shape: Shape of one event.
        standardized: Whether the model's first step standardises them, or "whiten", "logit", "centre"; its numbers are
            saved with the weights.
        columns: Names of an event's coordinates; empty where they have none.
        levels: Of images, the number of values of a pixel.
        fingerprint: Of the user's file that the data come from.
        warnings: What the user was told of the data before training.
    """

    shape: list[int] = saved("a shape", default_factory=list)
    standardized: bool | str = saved("true or false", "a text", default=False)
    columns: list[str] = saved("a list of texts", default_factory=list)
    levels: int | None = saved("a number of levels", "null", default=None)
    fingerprint: str | None = saved("a text", "null", default=None)
    warnings: list[str] = saved("a list of texts", default_factory=list)

    @classmethod
    def of(cls, state: Mapping[str, Any], origin: str) -> DataFacts:
        """Those in a checkpoint's state; what is absent has its default.

        Raises:
            RunError: One of them can't be what it should.
        """
        kinds = kinds_of(DataFacts)
        check(state, kinds, origin)
        facts = DataFacts(**{name: state[name] for name in kinds if name in state})
        if facts.columns and (facts.shape != [len(facts.columns)] or len(set(facts.columns)) < len(facts.columns)):
            raise RunError(f"{origin} is damaged: its 'columns' are no names of the {facts.shape} numbers of an event")
        if facts.levels is not None and len(facts.shape) == 1:
            raise RunError(f"{origin} is damaged: it has 'levels', which are of images, and events of {facts.shape}")
        return facts
