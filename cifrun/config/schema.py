"""The typed configuration: what every key means, its unit and its range.

The dataclasses here and the ones that flows and datasets register mirror `conf/`: a YAML file sets the fields of one
dataclass. `Config.parse` turns plain data (what Hydra composed, or a run's `config.yaml`) into typed objects, refuses
unknown keys, wrong types and values out of range with one sentence, and needs no Hydra.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import yaml
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ..errors import ConfigError, did_you_mean
from ..registry import ACTIONS, DATASETS, FLOWS, OBJECTIVES, OPTIMIZERS, Registry

if TYPE_CHECKING:
    from ..data.base import AnyDataset as DatasetField
    from ..flows.base import FlowConfig as FlowField

__all__ = [
    "STRICT",
    "Config",
    "DeviceConfig",
    "DiagnosticsConfig",
    "EvalConfig",
    "IndexConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "SweepConfig",
    "TrainerConfig",
    "check",
    "setting",
    "to_dict",
]

#: Every config dataclass refuses unknown keys, and numbers that are not finite.
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)


#: A path in which ~ is the home directory: not every shell puts it there in KEY=~/FILE.
UserPath = Annotated[Path, AfterValidator(lambda path: Path(os.path.expanduser(path)))]


def setting(default: Any, description: str, *, unit: str | None = None, **constraints: Any) -> Any:
    """A field of a config dataclass: default, what it means, its unit, and its range (`ge`, `gt`, `le`, `lt`, …)."""
    text = f"{description} [{unit}]" if unit else description
    if isinstance(default, list | dict):
        return Field(default_factory=lambda: default.copy(), description=text, **constraints)
    return Field(default=default, description=text, **constraints)


class _Nested(ValueError):
    """The sentence of a `ConfigError` on its way through pydantic, which collects nothing but `ValueError`s."""


def _registered(registry: Registry) -> Callable[[str], str]:
    def check_name(name: str) -> str:
        try:
            registry[name]
        except ConfigError as error:
            raise _Nested(error) from error
        return name

    return check_name


# --- the index --------------------------------------------------------------------------------------------------------

Sizes = Annotated[list[Annotated[int, Field(ge=1)]], Field(max_length=64)]


@dataclass(config=STRICT)
class IndexConfig:
    """The index u_l of each step: its size, which steps carry one, what it does, and its networks."""

    dim: int = setting(1, "size of each u_l (for images: its channels)", ge=1)
    depth: Annotated[int, Field(ge=1)] | Literal["all"] = setting(
        "all", "how many of the flow's steps carry an index, counted from the data"
    )
    action: Annotated[str, BeforeValidator(_registered(ACTIONS))] = setting(
        "affine", "what u does to z: affine, e^s(u) ⊙ (z + t(u)), or planar, z + a(u) tanh(w(u)ᵀz + b(u))"
    )
    st: Sizes | Literal["zero", "learned_constant"] = setting(
        [10, 10], "network of the action's parameters, s(u) and t(u) of the affine one: hidden sizes"
    )
    p: Sizes | Literal["standard_normal", "learned_constant"] = setting(
        [10, 10], "network of p(u | z): hidden sizes of its mean and log-scale"
    )
    q: Sizes | Literal["standard_normal", "learned_constant"] = setting(
        [10, 10], "network of q(u | x): hidden sizes of its mean and log-scale"
    )
    relative: bool = setting(True, "q as a difference from p at f⁻¹(x), or by itself, which is one network less to run")
    activation: Literal["tanh", "relu", "silu", "elu"] = setting("tanh", "activation of the index networks")


# --- training and evaluation ------------------------------------------------------------------------------------------


@dataclass(config=STRICT)
class ObjectiveConfig:
    """What training maximises."""

    name: Annotated[str, BeforeValidator(_registered(OBJECTIVES))] = setting("elbo", "elbo or iwae")
    importance_samples: int = setting(1, "m, draws of u for each datum of a training batch", ge=1)


@dataclass(config=STRICT)
class OptimizerConfig:
    """The optimiser, its learning rate over time, and gradient clipping."""

    name: Annotated[str, BeforeValidator(_registered(OPTIMIZERS))] = setting("adam", "adam, adamw or sgd")
    lr: float = setting(1e-3, "learning rate after the warm-up", gt=0)
    weight_decay: float = setting(0.0, "L2 penalty (decoupled for adamw)", ge=0)
    schedule: Literal["none", "cosine"] = setting(
        "none", "learning rate after the warm-up: constant, or cosine to zero"
    )
    warmup_steps: int = setting(0, "linear warm-up from zero", unit="steps", ge=0)
    max_grad_norm: float | None = setting(None, "clip the gradient to this 2-norm; null for no clipping", gt=0)


@dataclass(config=STRICT)
class TrainerConfig:
    """The training loop: how long, how large a batch, and how often what happens."""

    max_steps: int = setting(1000, "optimiser steps", unit="steps", ge=1)
    batch_size: int = setting(1000, "data a step, of all devices together (at most the training set)", ge=1)
    micro_batches: Annotated[int, Field(ge=1)] | Literal["auto"] = setting(
        1, "parts that a device takes its share of a batch in, for less memory; auto: as many as memory asks for"
    )
    shuffle: Literal["auto", "rows", "blocks"] = setting(
        "auto", "what an epoch shuffles: rows, or blocks of them, for data larger than memory; auto: blocks from 8 GiB"
    )
    log_every: int = setting(10, "write training metrics", unit="steps", ge=1)
    valid_every: int = setting(100, "evaluate on the validation set, keep the best", unit="steps", ge=1)
    plot_every: int = setting(
        500, "draw density and samples into TensorBoard; 0 for only at the end", unit="steps", ge=0
    )
    checkpoint_every: int = setting(100, "write checkpoints/latest", unit="steps", ge=1)
    patience: int = setting(0, "stop after this many validations without improvement; 0 to never stop early", ge=0)
    max_bad_steps: int = setting(
        20, "non-finite losses in a row that stop the run; seen when it logs", unit="steps", ge=1
    )
    progress: bool = setting(True, "show the progress bar")


@dataclass(config=STRICT)
class EvalConfig:
    """Log-likelihood estimates on the validation and test sets."""

    importance_samples: int = setting(100, "m of IWAE_m on the test set", ge=1)
    valid_importance_samples: int = setting(10, "m of IWAE_m on the validation set", ge=1)
    chunk_size: Annotated[int, Field(ge=1)] | Literal["auto"] = setting(
        "auto", "data × importance samples at once; auto: 10 000 (GPU: 500 000), or fewer if memory is short"
    )
    seed: int = setting(0, "seed of the evaluation's own random numbers", ge=0, lt=2**32)


@dataclass(config=STRICT)
class DiagnosticsConfig:
    """What is measured besides log-likelihoods: topology, invertibility, and trust in the estimate."""

    enabled: bool = setting(True, "measure; false for never, neither in training nor at the end")
    every: int = setting(0, "measure in training too, into TensorBoard; 0 for only at the end", unit="steps", ge=0)
    samples: int = setting(5000, "draws from the model that are counted on and off the target's support", ge=10)
    density_points: int = setting(2000, "data, and draws, whose log p(x) tells the coverage", ge=10)
    density_samples: int = setting(20, "m of that log p(x), IWAE_m; a plain flow needs none", ge=1)
    jacobian_points: int = setting(500, "data, and draws, where Jacobians are taken (fewer above 8 dimensions)", ge=1)
    weight_points: int = setting(50, "data, and draws, whose importance weights are looked at", ge=2)
    weights: int = setting(500, "importance weights of each of these", ge=1)


@dataclass(config=STRICT)
class DeviceConfig:
    """Where and how numbers are computed; handed to Lightning Fabric."""

    accelerator: Literal["auto", "cpu", "gpu"] = setting("auto", "auto takes a GPU where there is one")
    count: int = setting(1, "devices on this machine, each with a process that has a share of each batch", ge=1)
    nodes: int = setting(1, "machines, with `count` devices each; torchrun or srun starts the program on each", ge=1)
    precision: Literal["fp32", "tf32", "bf16", "fp64"] = setting("fp32", "precision of the matrix products")
    compile: bool = setting(False, "compile the training step with torch.compile")
    cuda_graph: bool = setting(True, "on a GPU, record a training step that does the same each time, and replay it")
    deterministic: bool = setting(True, "only algorithms that give the same numbers every time")


@dataclass(config=STRICT)
class SweepConfig:
    """A sweep that can be given again: it skips what is complete, continues what was interrupted."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")] | None = setting(
        None, "with -m: jobs go to multirun/NAME, where the same command, or one with more values, finds them again"
    )


# --- the whole --------------------------------------------------------------------------------------------------------


def _resolve(registry: Registry, key: str) -> Callable[[Any], Any]:
    """A mapping becomes the dataclass that `registry` holds under the mapping's `key`."""

    def resolve(raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            if dataclasses.is_dataclass(raw):
                return raw
            raise _Nested(f"{registry.noun} = {raw!r} is not allowed: choose one of {', '.join(registry)}")
        if not isinstance(raw.get(key), str):
            raise _Nested(f"{registry.noun}.{key} is missing: choose one of {', '.join(registry)}")
        try:
            return _validate(registry[raw[key]], raw, registry.noun)
        except ConfigError as error:
            raise _Nested(error) from error

    return resolve


if not TYPE_CHECKING:
    DatasetField = Annotated[Any, BeforeValidator(_resolve(DATASETS, "name"))]
    FlowField = Annotated[Any, BeforeValidator(_resolve(FLOWS, "family"))]


@dataclass(config=ConfigDict(**STRICT, arbitrary_types_allowed=True))
class Config:
    """Everything that defines a run. `Config.parse(data)` and `to_dict(config)` are inverse to each other."""

    dataset: DatasetField
    flow: FlowField
    cif: bool = setting(True, "index the flow's steps (true) or train the plain flow (false)")
    index: IndexConfig = Field(default_factory=IndexConfig)
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)
    eval: EvalConfig = Field(default_factory=EvalConfig)
    diagnostics: DiagnosticsConfig = Field(default_factory=DiagnosticsConfig)
    device: DeviceConfig = Field(default_factory=DeviceConfig)
    sweep: SweepConfig = Field(default_factory=SweepConfig)
    seed: int = setting(0, "of the initial weights, the order of the data, and every draw in training", ge=0, lt=2**32)
    run: UserPath | None = setting(None, "a run directory to evaluate or to sample")
    resume: UserPath | None = setting(None, "a run directory to continue")
    n: int = setting(1000, "how many samples `cifrun sample` draws", ge=1)
    output: UserPath | None = setting(None, "where `cifrun sample` writes: .npy, .png, or a table")
    data: UserPath | None = setting(None, "a file that `cifrun eval` evaluates instead of the test set")
    per_point: UserPath | None = setting(None, "where `cifrun eval` writes a line for each datum: a table")

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Config:
        """Typed config from plain data. Raises `ConfigError` with one sentence that names the key and the value."""
        return _validate(cls, data, "")

    @classmethod
    def load(cls, path: Path) -> Config:
        """The config of a run from its `config.yaml`, read as data."""
        with open(path, encoding="utf-8") as stream:
            data = yaml.safe_load(stream)
        if not isinstance(data, dict):
            raise ConfigError(f"{path} does not hold a configuration")
        return cls.parse(data)


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain data: dicts, lists, strings, numbers, booleans and None."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    return plain(dataclasses.asdict(config))


def check(cls: type, data: Mapping[str, Any], prefix: str = "") -> Any:
    """`cls(**data)` with types and ranges checked. Raises `ConfigError` with the key, the value and what is allowed."""
    return _validate(cls, data, prefix)


def _validate(cls: type, data: Any, prefix: str) -> Any:
    try:
        return TypeAdapter(cls).validate_python(data)
    except ValidationError as error:
        raise ConfigError(_sentence(error, cls, prefix)) from error


def _sentence(error: ValidationError, cls: type, prefix: str) -> str:
    """The first thing pydantic found wrong, in our words; a key of this level comes before those of nested configs."""
    details = error.errors(include_url=False)
    details.sort(key=lambda detail: isinstance(detail.get("ctx", {}).get("error"), _Nested))
    first = details[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, _Nested):  # already a sentence
        return str(cause)
    holder: Any = cls
    keys: list[str] = []
    for part in first["loc"]:
        names = [f.name for f in dataclasses.fields(holder)] if dataclasses.is_dataclass(holder) else []
        if part in names or not keys:
            keys.append(str(part))
        if part in names and dataclasses.is_dataclass(hint := get_type_hints(holder)[part]):
            holder = hint
    key = ".".join(filter(None, [prefix, *keys]))
    kind = first["type"]
    if kind == "unexpected_keyword_argument":
        allowed = [f.name for f in dataclasses.fields(holder)]
        name = str(first["loc"][-1])
        key = ".".join(filter(None, [prefix, *map(str, first["loc"])]))
        near = did_you_mean(name, allowed).replace("mean '", f"mean '{key.removesuffix(name)}")
        return f"there is no key '{key}': allowed here are {', '.join(allowed)}{near}"
    if kind in ("missing", "missing_argument"):
        return f"'{key}' is missing from the configuration"
    same = [d["msg"] for d in details if d["loc"][: len(keys)] == first["loc"][: len(keys)]]  # branches of a union
    messages = {
        m.removeprefix("Value error, ").removeprefix("Input should be ").partition(", unable to")[0] for m in same
    }
    what = " or ".join(sorted(messages)).replace("a valid boolean", "true or false")
    return f"{key or 'the configuration'} = {first['input']!r} is not allowed: it should be {what}"
